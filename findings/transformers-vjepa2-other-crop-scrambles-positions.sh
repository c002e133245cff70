#!/usr/bin/env bash
# transformers 5.24.0: V-JEPA 2 gives wrong positions to the patches of clips whose size is not config.crop_size.
#
# Expected: the rotary positions of the clip that is given, as in the original code, which counts the patches of each clip (no
#   weight depends on the size, and another number of frames works); or an error, as for ViViT and VideoMAE.
# Seen: positions are counted on the grid of config.crop_size. For 256, with clips of 224 pixels (14 x 14 patches of 16), patch 14
#   is the 15th of row 0 instead of the 1st of row 1, and patch 196, which begins the next frame, stands in row 12 of the first. The
#   features are not those of the same weights under crop_size=224 (random weights: by up to 0.7 of their standard deviation).
#   Nothing is raised.
# Why it matters: VJEPA2VideoProcessor takes any crop_size, and nothing ties it to the model's; the features of smaller, larger or
#   oblong clips are plausible and wrong. For another size, load the weights with that crop_size; oblong clips have none.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 torch==2.14.1 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import torch
from transformers import VJEPA2Config, VJEPA2Model


def network(crop_size, frames=4):
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "num_pooler_layers": 1}
    predictor = {"pred_hidden_size": 48, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    # initializer_range: weights large enough for attention that is not uniform
    config = VJEPA2Config(crop_size=crop_size, frames_per_clip=frames, initializer_range=0.2, **sizes, **predictor)
    return VJEPA2Model(config).eval()


given = network(256)
seen = {}
for crop_size, frames in [(256, 4), (256, 8), (224, 4), (384, 4)]:
    right = network(crop_size, frames)
    right.load_state_dict(given.state_dict())  # strict
    x = torch.randn(1, frames, 3, crop_size, crop_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, expected = given.get_vision_features(x), right.get_vision_features(x)
    seen[crop_size, frames] = float((features - expected).abs().max() / expected.std())
    print(f"{frames} frames of {crop_size} pixels: difference of {seen[crop_size, frames]:.3f} standard deviations")

tokens = torch.zeros(1, 2 * 14 * 14, 48)  # two steps of 224 pixels
attention = given.encoder.layer[0].attention
positions = torch.stack(attention.get_position_ids(tokens), -1).tolist()
print(f"224 pixels, (frame, row, column): patch 14 at {positions[14]}, patch 196 at {positions[196]}")
same, other = [seen[256, 4], seen[256, 8]], [seen[224, 4], seen[384, 4]]
if max(same) > 1e-4 or min(other) < 0.1 or positions[14] != [0, 0, 14] or positions[196] != [0, 12, 4]:
    sys.exit("changed")
PY
