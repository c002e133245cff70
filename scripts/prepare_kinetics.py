"""Transcode a collection for training: python scripts/prepare_kinetics.py ARCHIVES OUT --annotations train.csv.

The same as `farfield data prepare`.
"""

import sys

from farfield.cli import main

if __name__ == "__main__":  # workers import this file
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
