#!/usr/bin/env bash
# Linters, type checker and tests, in an environment of their own making. What CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "[dev]"

ruff check .
ruff format --check .
mypy
lint-imports
python -m pytest "$@"
