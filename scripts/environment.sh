# Sourced by the other scripts: creates .venv at the repository's root and installs the pinned packages, once for each set of pins: what Nomaly
# needs to run; with need=dev also the tools of checks, tests and documentation.
# NOMALY_PYTHON names the Python to use (3.10 or newer), NOMALY_VENV another folder for the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
need=${need:-run}
python=${NOMALY_PYTHON:-python3}
venv=$(realpath -m "${NOMALY_VENV:-.venv}")
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Nomaly needs Python 3.10 or newer, but $python is $("$python" -V 2>&1): set NOMALY_PYTHON to a newer one." >&2
    exit 2
}
pins=$(cat requirements.txt setup.cfg | cksum)
installed() { [ "$(cat "$venv/installed-$1" 2>/dev/null)" = "$pins" ]; }
if ! installed dev && ! installed "$need"; then
    size="about 3 GB, on Linux 8 GB as PyTorch's packages bring CUDA"
    [ "$need" = run ] || size="$size, and 2 GB for the tools"
    echo "Installing into $venv, once: $size; 5 to 10 minutes, mostly downloads."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    install=("$venv/bin/python" -m pip install --disable-pip-version-check)
    "${install[@]}" -r requirements.txt
    if [ "$need" = dev ]; then
        "${install[@]}" -e ".[dev]" -c requirements.txt
    else
        "${install[@]}" --no-deps -e .
    fi
    echo "$pins" >"$venv/installed-$need"
fi
export PATH="$venv/bin:$PATH"
