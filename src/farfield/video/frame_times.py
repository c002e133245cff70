"""Correct the display times that containers give: gaps, jumps, repeated times and delays of animated images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

LONGEST_GAP_SECONDS = 10.0
"""A longer gap in a transport or program stream counts as a clock reset, as in FFmpeg's command line."""

SHORTEST_STEP = 1 / 90_000
"""Seconds from one frame to the next if the container gives the same time for both."""

_TOO_SHORT_SECONDS, _USUAL_DELAY_SECONDS = 0.015, 0.1
"""Delays of animated images below the first value are replaced with the second.

Browsers do so for delays of 10 ms or less.
"""


def ascending(times: Float[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """Shift display times to start at 0, and make them strictly ascending; all times are in seconds.

    Frames that share a time are spaced by `SHORTEST_STEP`. If `times` descend somewhere, are all equal, or are not
    finite, the result has the constant rate `fps`.
    """
    is_valid = np.all(np.isfinite(times)) and np.all(np.diff(times) >= 0)
    if not is_valid or (len(times) > 1 and times[-1] == times[0]):
        return np.arange(len(times)) / (fps if fps > 0 else 25.0)
    times = times - times[0]
    if np.all(np.diff(times) > 0):
        return times
    steps = np.arange(len(times)) * SHORTEST_STEP
    return np.maximum.accumulate(times - steps) + steps


def continuous(stamps: list[int | None]) -> Float[np.ndarray, " frames"]:
    """Interpolate unknown display times (None), and remove jumps back in time.

    `stamps` are the times of the frames in display order; the result has the same unit. After a jump back, time
    continues from the previous frame at the median distance between frames.
    """
    places = np.array([place for place, stamp in enumerate(stamps) if stamp is not None])
    known = np.array([stamp for stamp in stamps if stamp is not None], np.float64)
    if len(known) < 2:
        return np.zeros(len(stamps))
    steps, distances = np.diff(known), np.diff(places)
    usual = float(np.median((steps / distances)[steps > 0])) if np.any(steps > 0) else 0.0
    steps = np.where(steps < 0, usual * distances, steps)
    times = known[0] + np.concatenate([[0.0], np.cumsum(steps)])
    every = np.arange(len(stamps))
    found = np.interp(every, places, times)
    outside = np.minimum(every - places[0], 0) + np.maximum(every - places[-1], 0)
    return found + outside * usual


def without_clock_jumps(times: Float[np.ndarray, " frames"], time_base: float) -> Float[np.ndarray, " frames"]:
    """Shorten gaps of more than `LONGEST_GAP_SECONDS` between frames to the median distance between frames.

    `time_base` is the unit of `times` and of the result, in seconds.
    """
    steps = np.diff(times)
    jumps = steps * time_base > LONGEST_GAP_SECONDS
    if not np.any(jumps) or np.all(jumps):
        return times
    return times[0] + np.concatenate([[0], np.cumsum(np.where(jumps, np.median(steps), steps))])


def browser_times(delays: Int[np.ndarray, " frames"], time_base: float) -> Int[np.ndarray, " frames"]:
    """Return the time at which browsers show each frame of an animated image, counted from the first frame.

    Args:
        delays: how long the file says to show each frame, in units of `time_base`. Browsers show a frame with a very
            short delay for longer, see `browser_delays`.
        time_base: unit of `delays` and of the result, in seconds.
    """
    seconds = browser_delays(delays * time_base)
    return np.round(np.concatenate([[0.0], np.cumsum(seconds[:-1])]) / time_base).astype(np.int64)


def browser_delays(seconds: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """Return how long browsers show each frame of an animated image, in seconds.

    If the delay in the file is below 15 ms, the result is 100 ms; otherwise it is the delay.

    Args:
        seconds: delay of each frame in the file: how long to show the frame, in seconds.
    """
    return np.where(seconds < _TOO_SHORT_SECONDS, _USUAL_DELAY_SECONDS, seconds)
