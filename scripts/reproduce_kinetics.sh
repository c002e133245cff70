#!/usr/bin/env bash
# Published Kinetics-400 accuracies, measured again: scripts/reproduce_kinetics.sh VIDEOS --annotations val.csv --out runs/kinetics400
# Options: scripts/reproduce_kinetics.sh --help. Installs farfield into .venv if it is not there.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
pushd "$repository" >/dev/null
source scripts/environment.sh ""
popd >/dev/null
exec python "$repository/scripts/reproduce_kinetics.py" "$@"
