"""`ExportedProgram`'s private attributes, which `write_pt2` clears, still exist and are what is saved."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch
from torch import nn

from farfield.runtimes.torch_export_archive import write_pt2


def test_exported_program_has_guards_and_example_inputs_and_they_are_not_saved(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.randn(5, 3),))
    assert hasattr(program, "_guards_code")
    assert program._example_inputs is not None
    program._guards_code = ["False"]
    write_pt2(program, "{}", tmp_path / "a.pt2")
    assert program._guards_code == ["False"]  # the caller's program is unchanged
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        assert not json.loads(archive.read(names["models/model.json"]))["guards_code"]
        assert archive.getinfo(names["data/sample_inputs/model.pt"]).file_size == 0
