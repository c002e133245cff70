"""Names of the video decoders PyAV and decord, without importing them."""

from typing import Literal

Decoder = Literal["pyav", "decord"]

DecoderOption = Literal["pyav", "decord", "PyAV"]
"""Values accepted in configs; earlier versions spelled pyav as PyAV."""
