#!/usr/bin/env bash
# Linters, type checker and tests, in an environment of their own making. What CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "[dev]"

ruff check .
ruff format --check .
mypy
lint-imports
# A process a core, with one thread each: more would get in each other's way.
OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal "$@"
