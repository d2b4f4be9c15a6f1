# Makes a virtual environment with graphon, Dify's engine, which the differential test asks. It needs Python 3.12, so it
# can't live in ours; without one the test goes by recorded answers.
#     sh .ci/graphon.sh FOLDER
# graphon's own list of requirements is a hundred packages for documents and models; its pure nodes import these.
for python in "$PYTHON" python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break
    python=""
done
[ -n "$python" ] || { echo "No Python 3.12 here: the differential test goes by recorded answers." >&2; exit 0; }
"$python" -m venv "$1.part" && pip="$1.part/bin/pip install --quiet --disable-pip-version-check" || exit 1
$pip --no-deps graphon==0.5.1 && $pip charset-normalizer==3.5.2 httpx==0.28.1 jinja2==3.1.6 json_repair==0.64.5 \
    jsonschema==4.26.0 orjson==3.13.0 pydantic==2.14.3 pydantic-extra-types==2.11.1 pyyaml==6.0.3 regex==2026.11.15 \
    2>"$1.part/said" || { cat "$1.part/said" >&2; exit 1; }
rm -rf "$1" && mv "$1.part" "$1"
