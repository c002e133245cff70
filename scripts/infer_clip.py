"""Predict the actions in clips: python scripts/infer_clip.py CLIP --checkpoint CKPT. The same as `farfield predict`."""

import sys

from farfield.cli import main

sys.exit(main(["predict", *sys.argv[1:]]))
