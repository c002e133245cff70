"""Names of the video decoders. Imports neither of them."""

from typing import Literal

Decoder = Literal["pyav", "decord"]

DecoderOption = Literal["pyav", "decord", "PyAV"]
"""Values accepted in configs; earlier versions wrote PyAV."""
