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
lint-imports
# The type checker uses one core, and the tests wait now and then: together they take less time than one after the other.
mypy &
types=$!
status=0
# glibc keeps what is freed: to take it from the kernel again, page by page, was a tenth of the tests' CPU time.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
# One thread in each process, and one process more than cores, since some tests wait. A file's tests share fixtures, so they
# stay together, and tests/conftest.py has put the longest files first.
OMP_NUM_THREADS=1 python -m pytest -n "$(($(getconf _NPROCESSORS_ONLN) + 1))" --dist loadfile --no-loadscope-reorder "$@" || status=$?
wait "$types" || status=$?
exit "$status"
