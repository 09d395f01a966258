#!/usr/bin/env bash
# Score a folder of DICOM files through MONAI Deploy: scripts/monai_deploy.sh --bundle NAME --input FOLDER --output FOLDER; see --help.
# With --install it only creates the environment, as for the tests.
# NOMALY_PYTHON names the Python to use (3.10 to 3.13), NOMALY_DEPLOY_VENV another folder for the environment (.venv-deploy).
source "$(dirname "${BASH_SOURCE[0]}")/own_environment.sh"
own_environment "MONAI Deploy" 3.13 "${NOMALY_DEPLOY_VENV:-.venv-deploy}"
case " $* " in *" --help "* | *" -h "*) exec "$python" -m custom.deploy "$@" ;; esac
install_once "MONAI Deploy" "3.5 GB" "$root/requirements-deploy.txt" "$root/requirements.txt"
[ "$*" != --install ] || exit 0
ulimit -S -s 32768 2>/dev/null || true # required by Holoscan
trap 'echo "monai_deploy.sh: stopped. Run the same command again with --resume true: finished studies are kept." >&2; exit 130' INT
"$venv/bin/python" -m custom.deploy "$@"
