"""Train a network: python scripts/train.py --config figures_tiny_nl2. The same as `farfield fit`."""

import sys

from farfield.cli import main

sys.exit(main(["fit", *sys.argv[1:]]))
