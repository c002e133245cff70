#!/usr/bin/env bash
# transformers 5.24.0: with attention_type="space_only", a TimeSformer classifies every frame instead of every clip.
#
# Expected: logits of shape (clips, classes), as the output's documentation says and as "divided_space_time" and "joint_space_time"
#   give. The paper's own code averages the frames before the last norm.
# Seen: logits of shape (clips * frames, classes). The first rows are the frames of the first clip: row 1 does not depend on the
#   second clip at all. Nothing is raised, until cross-entropy finds more rows than labels.
# Why it matters: zip(clips, logits.argmax(-1)) gives every clip a class of the first one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 torch==2.14.1 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import torch
from transformers import TimesformerConfig, TimesformerForVideoClassification
from transformers.modeling_outputs import ImageClassifierOutput

if "`(batch_size, config.num_labels)`" not in ImageClassifierOutput.__doc__:
    sys.exit("changed: the documentation states another shape")
clips, frames, classes = 2, 4, 5
x = torch.randn(clips, frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))
other_second_clip = torch.stack([x[0], -x[1]])
shapes = {}
for kind in ("divided_space_time", "joint_space_time", "space_only"):
    torch.manual_seed(0)
    config = TimesformerConfig(
        image_size=32,
        num_frames=frames,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        attention_type=kind,
        num_labels=classes,
    )
    network = TimesformerForVideoClassification(config).eval()
    with torch.no_grad():
        logits, others = network(x).logits, network(other_second_clip).logits
    shapes[kind] = tuple(logits.shape)
    depends = [not torch.equal(a, b) for a, b in zip(logits, others, strict=True)]
    print(f"{kind}: logits {shapes[kind]}; rows that depend on the second clip: {depends}")
expected = {
    "divided_space_time": (clips, classes),
    "joint_space_time": (clips, classes),
    "space_only": (clips * frames, classes),
}
if shapes != expected or depends != [False] * frames + [True] * frames:
    sys.exit(f"changed: {shapes}")
PY
