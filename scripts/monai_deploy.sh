#!/usr/bin/env bash
# Assess a folder of DICOM files by MONAI Deploy: scripts/monai_deploy.sh --bundle NAME --input FOLDER --output FOLDER; see --help.
# With --install it only makes the environment, as for the tests.
# NOMALY_PYTHON names the Python to use (3.10 to 3.13), NOMALY_DEPLOY_VENV another place for the environment (.venv-deploy).
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=${NOMALY_PYTHON:-python3}
venv=$(realpath -m "${NOMALY_DEPLOY_VENV:-.venv-deploy}")
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || {
    echo "MONAI Deploy needs Python 3.10 to 3.13, but $python is $("$python" -V 2>&1): set NOMALY_PYTHON to one of these." >&2
    exit 2
}
cd "$here" # relative paths are those of the user
export PYTHONPATH="$root" OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
case " $* " in *" --help "* | *" -h "*) exec "$python" -m custom.deploy "$@" ;; esac
pins=$(cat "$root/requirements-deploy.txt" "$root/requirements.txt" | cksum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$pins" ]; then
    echo "Installing MONAI Deploy into $venv (about 5 minutes and 4 GB, once) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    echo '*' >"$venv/.gitignore"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/requirements-deploy.txt"
    echo "$pins" >"$venv/installed"
fi
ulimit -S -s 32768 2>/dev/null || true # as Holoscan wants it
[ "$*" != --install ] || exit 0
trap 'echo "monai_deploy.sh: stopped. Run the same command again with --resume true: what is done is kept." >&2; exit 130' INT
"$venv/bin/python" -m custom.deploy "$@"
