# Installs the Debian packages whose commands are missing, where that is possible; else says which to install.
#     sh .ci/debian.sh COMMAND...
# A command is in the package of its name, or in the one named here.
package_of() {
    case "$1" in
        nginx) echo nginx-light ;;
        postgres) echo postgresql ;;
        setpriv) echo util-linux ;;
        *) echo "$1" ;;
    esac
}

# Debian keeps PostgreSQL's commands out of PATH, and root's out of other accounts'.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done

missing=""
for command in "$@"; do command -v "$command" >/dev/null || missing="$missing $(package_of "$command")"; done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Servers are started here by those who need them: the package is not to start a PostgreSQL of its own at every boot.
    quiet=/etc/postgresql-common/createcluster.d/atelier.conf
    case "$missing" in *postgresql*) mkdir -p "${quiet%/*}" && echo "create_main_cluster = false" > "$quiet" ;; esac
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
    status=$?
    rm -f "$quiet"
    exit $status
else
    echo "Missing here:$missing. Install: sudo apt-get install$missing" >&2
    exit 1
fi
