#!/usr/bin/env bash
# Run linters, type checker and tests in .venv, as CI does. --quick leaves out the slow tests: for each commit.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "[dev]"
if [ "${1:-}" = --quick ]; then
    shift
    set -- -m "not slow" "$@"
fi

ruff check .
ruff format --check .
mypy
lint-imports
# One thread in each process, and one process more than cores, since some tests wait. A file's tests share fixtures, so they
# stay together.
OMP_NUM_THREADS=1 python -m pytest -n "$(($(getconf _NPROCESSORS_ONLN) + 1))" --dist loadfile "$@"
