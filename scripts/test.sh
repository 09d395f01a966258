#!/usr/bin/env bash
# The whole check: format, rendered configs, all tests. Options go to pytest, such as -m "not slow".
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
black --check --quiet . || { echo "run: black ." >&2; exit 1; }
isort --check --quiet . || { echo "run: isort ." >&2; exit 1; }
flake8
python scripts/render_bundles.py --check
pytest "$@"
