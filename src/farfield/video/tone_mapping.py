"""Tone mapping of HDR (HLG and PQ in BT.2020) to BT.709, which networks are trained on.

ITU-R BT.2100 defines the light that a display emits for a signal. BT.2408 puts diffuse white at 203 cd/m2,
which is 75% of the HLG signal. This level becomes the white of BT.709, so that a scene looks the same in HDR and SDR.
Brighter light is clipped.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

ToneMap = Literal["auto", "off"]

PQ, HLG = 16, 18
"""Codes of the transfer characteristics PQ and HLG in ITU-T H.273."""
BT709 = 1
"""Code of the BT.709 colour primaries in ITU-T H.273."""
WHITE_NITS = 203.0
HLG_PEAK_NITS, HLG_SYSTEM_GAMMA = 1000.0, 1.2
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593])
BT709_OF_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Matrix from linear BT.2020 RGB to linear BT.709 RGB (ITU-R BT.2087)."""

_LUT_SIDE = 65  # the largest that Pillow accepts


def is_hdr(transfer: int) -> bool:
    """Return whether a frame's transfer characteristic (`color_trc`) is PQ or HLG."""
    return transfer in (PQ, HLG)


def to_bt709(picture: UInt8[np.ndarray, "h w c"], transfer: int, primaries: int) -> UInt8[np.ndarray, "h w c"]:
    """Convert an RGB picture in PQ or HLG to BT.709.

    Args:
        picture: RGB, full range.
        transfer: `PQ` or `HLG`.
        primaries: the frame's `color_primaries`. Any value except `BT709` is treated as BT.2020, the default of HDR.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.filter(_lut(transfer, primaries == BT709)))


@cache
def _lut(transfer: int, is_bt709: bool) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0, 1, _LUT_SIDE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red varies fastest
    signal = np.stack([red, green, blue], -1)
    nits = _nits(signal, transfer) @ (np.eye(3) if is_bt709 else BT709_OF_BT2020.T)
    return ImageFilter.Color3DLUT(_LUT_SIDE, _signal_709(nits).ravel())


def _nits(signal: Float[np.ndarray, "*places 3"], transfer: int) -> Float[np.ndarray, "*places 3"]:
    """Return the linear light that a display emits, in cd/m2, for a signal in [0, 1] (BT.2100, tables 4 and 5)."""
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = signal ** (1 / m2)
        return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = (scene @ LUMINANCE_2020)[..., None]
    return HLG_PEAK_NITS * luminance ** (HLG_SYSTEM_GAMMA - 1) * scene


def _signal_709(nits: Float[np.ndarray, "*places 3"]) -> Float[np.ndarray, "*places 3"]:
    """Convert linear light to a BT.709 signal in [0, 1], for a display with a gamma of 2.4 (BT.1886).

    Args:
        nits: linear light in cd/m2. `WHITE_NITS` becomes a signal of 1; brighter light is clipped.
    """
    return np.clip(nits / WHITE_NITS, 0, 1) ** (1 / 2.4)
