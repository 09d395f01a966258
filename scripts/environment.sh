# Sourced by the other scripts: creates .venv at the repository's root and installs the pinned packages, once for each set of pins.
# NOMALY_PYTHON names the Python to use (3.10 or newer), NOMALY_VENV another folder for the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${NOMALY_PYTHON:-python3}
venv=$(realpath -m "${NOMALY_VENV:-.venv}")
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Nomaly needs Python 3.10 or newer, but $python is $("$python" -V 2>&1): set NOMALY_PYTHON to a newer one." >&2
    exit 2
}
pins=$(cat requirements.txt setup.cfg | cksum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$pins" ]; then
    echo "Installing into $venv (a few minutes, once) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c requirements.txt
    echo "$pins" >"$venv/installed"
fi
export PATH="$venv/bin:$PATH"
