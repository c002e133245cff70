#!/usr/bin/env bash
# From a fresh clone to a trained non-local network, a test report and a labelled video, on two CPU cores.
# Idempotent: existing files are kept, and a training run that was stopped resumes.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh ""

run=runs/figures_tiny_nl2
step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

step "1/4 synthesize: 900 videos of a person doing everyday actions, in time-mirrored pairs"
farfield data synthesize figures data/figures

step "2/4 train: a small 3D network with two non-local blocks"
farfield fit --config figures_tiny_nl2 --resume true

step "3/4 test: all views of the held-out videos"
farfield test --checkpoint "$run/checkpoints/best.ckpt" --data.manifest data/figures/test.csv

step "4/4 predict: a held-out clip"
farfield predict data/figures/videos/test_00008_stand_up.mp4 --checkpoint "$run/checkpoints/best.ckpt" \
    --top_k 3 --out "$run/predictions" --write mp4

cat <<EOF

Output files:
  $run/checkpoints/best.ckpt          the network: weights, labels, sampling, normalisation
  $run/test/report.md                 accuracy with intervals, per class, confusion matrix
  $run/predictions/                   the clip with its labels
  $run/metrics.csv, curves.png        metrics by epoch
  data/figures/                       the videos and their manifests
EOF
