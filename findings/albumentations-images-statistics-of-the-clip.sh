#!/usr/bin/env bash
# albumentations 2.0.8: for images= (a clip), some transforms take their statistics from the whole clip, some from each frame, and
# one from the first frame.
#
# Expected: images= does to each frame what image= does to it, with the same random parameters for all frames.
# Seen: true for Equalize. Normalize("image"), Normalize("min_max") and AutoContrast use statistics of the whole clip, so a frame
#   comes out differently when another frame of the clip changes, and a clip is not what its frames are one by one;
#   RandomBrightnessContrast(brightness_by_max=False) adds the first frame's mean to all frames.
# Why it matters: "image" normalisation at training (frames through image=) and inference (clips through images=) differ by more
#   than a standard deviation in a clip with a fade or a cut.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
    albumentations==2.0.8 albucore==0.0.24 opencv-python-headless==4.12.0.88 numpy==2.2.6
cd "$work"
NO_ALBUMENTATIONS_UPDATE=1 "$work/venv/bin/python" - <<'PY'
import sys

import albumentations as A
import numpy as np

rng = np.random.default_rng(0)
dark = rng.integers(0, 40, (16, 16, 3)).astype(np.uint8)
bright = rng.integers(150, 250, (16, 16, 3)).astype(np.uint8)
clip = np.stack([dark, bright])
brightness = {"brightness_limit": (0.5, 0.5), "contrast_limit": (0, 0), "brightness_by_max": False}
transforms = {
    "Equalize": A.Equalize(p=1),
    "Normalize image": A.Normalize(normalization="image", p=1),
    "Normalize min_max": A.Normalize(normalization="min_max", p=1),
    "AutoContrast": A.AutoContrast(p=1),
    "RandomBrightnessContrast, by mean": A.RandomBrightnessContrast(**brightness, p=1),
}
seen = {}
for name, transform in transforms.items():
    together = A.Compose([transform], seed=3)(images=clip)["images"]
    one_by_one = np.stack([A.Compose([transform], seed=3)(image=frame)["image"] for frame in clip])
    equal = bool(np.allclose(together, one_by_one, atol=1e-3))
    means = [[round(float(frame.mean()), 2) for frame in frames] for frames in (together, one_by_one)]
    print(f"{name}: means of the frames with images= {means[0]}, with image= {means[1]}")
    seen[name] = (equal, means)
expected = {
    "Equalize": (True, [[127.64, 127.9], [127.64, 127.9]]),
    "Normalize image": (False, [[-0.97, 0.97], [0, 0]]),
    "Normalize min_max": (False, [[0.08, 0.81], [0.51, 0.52]]),
    "AutoContrast": (False, [[62.97, 191.24], [127.64, 127.9]]),
    "RandomBrightnessContrast, by mean": (False, [[30.05, 211.1], [30.05, 254.9]]),
}
for name, (equal, means) in expected.items():
    if seen[name][0] != equal or not np.allclose(seen[name][1], means, atol=0.02):
        sys.exit(f"changed: {name} {seen[name]}")
PY
