#!/usr/bin/env bash
# All checks: format, types, rendered configs, tests. Options go to pytest, such as -m "not slow".
need=dev
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
black --check --quiet . || { echo "run: black ." >&2; exit 1; }
isort --check --quiet . || { echo "run: isort ." >&2; exit 1; }
flake8
mypy
python scripts/render_bundles.py --check
# The networks of the tests are tiny: two processes of one thread each are faster than one of two threads.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} pytest -n 2 --dist loadfile "$@"
