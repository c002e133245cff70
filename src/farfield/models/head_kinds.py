"""Names of the heads of `head.py`, without importing PyTorch."""

from typing import Literal

HeadKind = Literal["gap_fc", "window_mean", "window_softmax_mean", "attentive"]
