# Installs the Debian packages whose commands are missing, where that is possible; else says which to install.
#     sh .ci/debian.sh COMMAND...        (here each command's package has its name)
missing=""
for command in "$@"; do command -v "$command" >/dev/null || missing="$missing $command"; done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
else
    echo "The tests need:$missing. Install them: sudo apt-get install$missing" >&2
    exit 1
fi
