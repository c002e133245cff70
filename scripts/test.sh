#!/usr/bin/env bash
# Linters, type checker and tests, in an environment of their own making. What CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "[dev]"

ruff check .
ruff format --check .
mypy
lint-imports
# A process a core, with one thread each: more would get in each other's way. What fails there, for want of time perhaps,
# has to pass alone.
OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal "$@" ||
    python -m pytest --last-failed --last-failed-no-failures none "$@"
