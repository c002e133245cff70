"""Names of the kinds of head in `head.py`. This file does not import PyTorch."""

from typing import Literal

HeadKind = Literal["gap_fc", "window_mean", "window_softmax_mean", "attentive"]
