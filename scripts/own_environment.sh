# Sourced by the scripts of servers that cannot share Nomaly's environment. It sets root, python, venv and PYTHONPATH, and returns to the
# user's folder: own_environment NAME NEWEST_PYTHON VENV; install_once NAME SIZE REQUIREMENTS... installs the first file, once for each set of pins.
# NOMALY_PYTHON names the Python to use.
set -euo pipefail

own_environment() {
    local here=$PWD
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    root=$PWD
    python=${NOMALY_PYTHON:-python3}
    venv=$(realpath -m "$3")
    "$python" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, ${2#3.}))" || {
        echo "$1 needs Python 3.10 to $2, but $python is $("$python" -V 2>&1): set NOMALY_PYTHON to one of these." >&2
        exit 2
    }
    cd "$here" # relative paths refer to the user's folder
    export PYTHONPATH="$root" OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
}

install_once() {
    local name=$1 size=$2 pins
    shift 2
    pins=$(cat "$@" | cksum)
    [ "$(cat "$venv/installed" 2>/dev/null)" != "$pins" ] || return 0
    echo "Installing $name into $venv (about 5 minutes and $size, once) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    echo '*' >"$venv/.gitignore"
    PYTHONPATH= "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1"
    echo "$pins" >"$venv/installed"
}
