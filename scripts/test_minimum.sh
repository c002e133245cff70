#!/usr/bin/env bash
# Run the quick tests with the lowest versions that pyproject.toml allows, of all extras. A bound that fails here is raised.
# Needs uv (`pip install uv`). Makes .venv-minimum anew each time; the first time downloads about 4 GB, later ones use uv's cache.
# Only wheels are installed, so that no old release is compiled: where the lowest version has none for this Python, uv takes
# the next that has one, and lowest_versions.py says so. Excepted are packages of Python code that publish no wheels.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v uv >/dev/null; then
    echo "scripts/test_minimum.sh needs uv, and there is none on PATH. Install it: pip install uv" >&2
    exit 1
fi

uv venv --quiet --clear .venv-minimum
export VIRTUAL_ENV="$PWD/.venv-minimum" PATH="$PWD/.venv-minimum/bin:$PATH"
without_wheels=(fvcore iopath jstyleson pytorchvideo)
uv pip install --quiet --resolution lowest-direct --only-binary :all: "${without_wheels[@]/#/--no-binary=}" \
    --requirements pyproject.toml --extra dev
uv pip install --quiet --no-deps --editable . pip  # a test runs pip
python scripts/lowest_versions.py

quick="not slow or dependency"  # without the slow tests, but for those of the extras and of W&B
unset PYTHONDONTWRITEBYTECODE  # as in environment.sh
OMP_NUM_THREADS=1 python -m pytest -n "$(($(getconf _NPROCESSORS_ONLN) + 1))" --dist loadfile -m "$quick" "$@"
