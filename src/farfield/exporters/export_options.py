"""Options of an export to a file."""

from __future__ import annotations

from dataclasses import dataclass

from farfield.errors import FarfieldError

TOLERANCE = 1e-4

COMPARE_CLIPS = 64
"""Default maximum number of clips on which the exported graph and the network are compared.

If the graph is wrong, scores usually differ on the first clip already. The other clips cover rare inputs.
"""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export to a file.

    Args:
        include_preprocessing: make the graph take uint8 RGB frames (b t h w c) and normalise them itself, for programs
            without farfield. Otherwise the graph takes normalised clips (b 3 t h w), as the network does.
        int8: quantise weights and activations to 8 bits; for .xml only. The given clips are used to calibrate the
            ranges of values and to measure the loss of accuracy. The tolerance applies to the graph before
            quantisation.
        num_calibration_clips: maximum number of clips to calibrate the 8-bit ranges on, spread evenly over the given
            clips.
        num_compare_clips: maximum number of clips on which scores are compared and 8-bit accuracy is measured, spread
            evenly over the given clips.
        tolerance: the largest accepted difference of a probability. Also the largest accepted difference of a logit,
            divided by the largest absolute logit; for a multilabel network, this divisor is at least 1.

    Raises:
        FarfieldError: for values out of range.
    """

    include_preprocessing: bool = False
    int8: bool = False
    num_calibration_clips: int = 128
    num_compare_clips: int = COMPARE_CLIPS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        for name in ("num_calibration_clips", "num_compare_clips"):
            if getattr(self, name) < 1:
                raise FarfieldError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not self.tolerance >= 0:
            raise FarfieldError(f"tolerance is {self.tolerance}; it must be at least 0.")
