"""Archives of torch.export hold encoders of `transformers`, whose operators are their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farfield.checkpoints.checkpoint import load_network
from farfield.runtimes.torch_export_archive import read_pt2, write_pt2
from hugging_face import FAMILIES, make_model, save


@pytest.mark.dependency
@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_an_archive_of_each_family_is_read_and_computes_the_same(kind: str, tmp_path: Path) -> None:
    network = load_network(save(make_model(kind), tmp_path / "folder"))
    clips = torch.randn(2, 3, 4, 48, 48)
    write_pt2(torch.export.export(network, (clips,)), "{}", tmp_path / "network.pt2")
    program, _ = read_pt2(tmp_path / "network.pt2")
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clips), network(clips), rtol=1e-5, atol=1e-5)
