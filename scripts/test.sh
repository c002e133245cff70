#!/usr/bin/env bash
# Run linters, type checker and tests in .venv, as CI does.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "[dev]"

ruff check .
ruff format --check .
mypy
lint-imports
# One process per core with one thread each, to avoid oversubscription. Failed tests, which may have timed out, are rerun
# without parallel ones.
OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal "$@" ||
    python -m pytest --last-failed --last-failed-no-failures none "$@"
