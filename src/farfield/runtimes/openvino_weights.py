"""Check that the two files of an OpenVINO export belong together: NAME.xml has the graph, NAME.bin the weights.

The graph of two exports of one architecture is the same. With the weights of the other one, it would compute the scores
of the other network, and name them with its own labels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from farfield.errors import FarfieldError
from farfield.runtimes.metadata import KEY

FINGERPRINT = [KEY, "weights"]
"""Place of the fingerprint in the .xml file's runtime information."""

_SAMPLE_BYTES = 65_536


def fingerprint(path: Path) -> str:
    """Return a hash of a file's length, beginning, middle and end, as 16 hexadecimal digits.

    It tells the weights of two networks apart without reading all of the file.
    """
    length = path.stat().st_size
    digest = hashlib.sha256(str(length).encode())
    with path.open("rb") as file:
        for place in (0, length // 2, max(length - _SAMPLE_BYTES, 0)):
            file.seek(place)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def check_weights(model: Any, path: Path) -> None:
    """Check that the .bin file beside an .xml file was written with it. Files of earlier versions are not checked.

    Args:
        model: OpenVINO model that was read from the .xml file.
        path: the .xml file.

    Raises:
        FarfieldError: if the .bin file is of another export.
    """
    weights = path.with_suffix(".bin")
    if model.has_rt_info(FINGERPRINT) and str(model.get_rt_info(FINGERPRINT).value) != fingerprint(weights):
        raise FarfieldError(
            f"{weights} does not belong to {path.name}: it is of another export. Copy both files of one export."
        )
