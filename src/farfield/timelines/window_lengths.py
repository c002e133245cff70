"""Check the window length and the hop of a timeline. Importing this file does not import PyTorch."""

from __future__ import annotations

import math

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError


def check_window_lengths(spec: ClipSpec | None, hop_seconds: float | None, window_seconds: float | None) -> None:
    """Check the hop and the window length before a video is opened.

    Args:
        spec: the network's clip settings; None if the network is not known yet.
        hop_seconds: time between the starts of windows; None for the default.
        window_seconds: length of a window; None for the default.

    Raises:
        FarfieldError: if hop_seconds or window_seconds is not positive and finite; or if window_seconds is None, but
            the network samples its clips from the whole video, so that there is no default.
    """
    for name, given in (("hop", hop_seconds), ("window", window_seconds)):
        if given is not None and not 0 < given < math.inf:
            raise FarfieldError(f"{name}_seconds is {given}; it must be positive and finite.")
    if spec is not None and spec.sampling == "segments" and window_seconds is None:
        raise FarfieldError(
            "this network samples frames from the whole video, so it has no window length of its own. Give "
            "window_seconds, about the length of an action."
        )
