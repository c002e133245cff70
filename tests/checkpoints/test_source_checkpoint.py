"""Options of blocks that are derived from the shapes of their weights."""

from __future__ import annotations

import pytest

from farfield.checkpoints.converters.source_checkpoint import block_options_by_shape
from farfield.errors import FarfieldError


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ({"res3.1": (512, 256), "res4.1": (1024, 512)}, {}),
        ({"res4.1": (1024, 256), "res4.3": (1024, 256)}, {"inner_channels": 256}),
        ({"res3.1": (512, 256), "res4.1": (1024, 256)}, None),
    ],
)
def test_widths_of_blocks(widths: dict[str, tuple[int, int]], options: dict[str, int] | None) -> None:
    shapes = {f"{place}.inserted.w_z.weight": (*width, 1, 1, 1) for place, width in widths.items()}
    if options is None:
        message = r"of its non-local blocks' \(channels, inner channels\): .*\(1024, 256\)}\. Either every block"
        with pytest.raises(FarfieldError, match=message):
            block_options_by_shape(shapes, "a.pth")
    else:
        assert block_options_by_shape(shapes, "a.pth").get("inner_channels") == options.get("inner_channels")
