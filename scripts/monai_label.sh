#!/usr/bin/env bash
# Serve bundles to 3D Slicer through MONAI Label, for a folder of studies: scripts/monai_label.sh --studies FOLDER [--bundle NAME]; see --help.
# With --install it only creates the environment, as for the tests.
# NOMALY_PYTHON names the Python to use (3.10 to 3.12), NOMALY_LABEL_VENV another folder for the environment (.venv-label).
source "$(dirname "${BASH_SOURCE[0]}")/own_environment.sh"
own_environment "MONAI Label" 3.12 "${NOMALY_LABEL_VENV:-.venv-label}"
case " $* " in *" --help "* | *" -h "*) exec "$python" -m custom.label.options "$@" ;; esac
# mistakes are reported before anything is installed
[ "$*" = --install ] || "$python" -m custom.label.options "$@"
install_once "MONAI Label" "4 GB" "$root/requirements-label.txt"
[ "$*" = --install ] || exec "$venv/bin/python" -m custom.label.server "$@"
