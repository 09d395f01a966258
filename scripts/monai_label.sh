#!/usr/bin/env bash
# Serve bundles to 3D Slicer by MONAI Label, for a folder of studies: scripts/monai_label.sh --studies FOLDER [--bundle NAME]; see --help.
# With --install it only makes the environment, as for the tests.
# NOMALY_PYTHON names the Python to use (3.10 to 3.12), NOMALY_LABEL_VENV another place for the environment (.venv-label).
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=${NOMALY_PYTHON:-python3}
venv=$(realpath -m "${NOMALY_LABEL_VENV:-.venv-label}")
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || {
    echo "MONAI Label needs Python 3.10 to 3.12, but $python is $("$python" -V 2>&1): set NOMALY_PYTHON to one of these." >&2
    exit 2
}
cd "$here" # relative paths are those of the user
export PYTHONPATH="$root" OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
case " $* " in *" --help "* | *" -h "*) exec "$python" -m custom.label.options "$@" ;; esac
# mistakes are told before anything is installed
[ "$*" = --install ] || "$python" -m custom.label.options "$@"
pins=$(cksum <"$root/requirements-label.txt")
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$pins" ]; then
    echo "Installing MONAI Label into $venv (about 5 minutes and 4 GB, once) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    echo '*' >"$venv/.gitignore"
    PYTHONPATH= "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/requirements-label.txt"
    echo "$pins" >"$venv/installed"
fi
[ "$*" = --install ] || exec "$venv/bin/python" -m custom.label.server "$@"
