"""Hysteresis: a state is switched on by one condition, and stays on while another, weaker condition holds.

With two thresholds, an event starts when a probability reaches the higher threshold, and ends when it falls below the
lower threshold, so that noise around a single threshold does not cut an event into pieces. pyannote.audio calls the two
thresholds onset and offset (`Binarize`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool


def hold(starts: Bool[np.ndarray, "cells ..."], lasts: Bool[np.ndarray, "cells ..."]) -> Bool[np.ndarray, "cells ..."]:
    """Return where the state is on: where `starts` is True, and from there on for as long as `lasts` is True.

    on[t] = starts[t] or (on[t - 1] and lasts[t]), along the first axis.
    """
    places = np.arange(len(starts)).reshape(-1, *[1] * (starts.ndim - 1))
    last_start = np.maximum.accumulate(np.where(starts, places, -1), axis=0)
    last_break = np.maximum.accumulate(np.where(lasts, -1, places), axis=0)
    return (last_start >= 0) & (last_start >= last_break)
