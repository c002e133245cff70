from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("pyslowfast", "jump/a.mp4 0\njump/more/b.mp4 0\nrun/c d.mp4 1\n"),
        ("pyslowfast", "{root}/jump/a.mp4,0\n{root}/jump/more/b.mp4,0\n{root}/run/c d.mp4,1\n"),
        ("mmaction2", "jump/a.mp4 0\njump/more/b.mp4 0\nrun/c d.mp4 1\n"),
    ],
)
def test_lists_of_other_projects(format: str, lines: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(lines.replace("{root}", str(tree)))
    (tmp_path / "names.txt").write_text("jump\nrun\n")
    out, annotations, names = (str(tmp_path / name) for name in ("m.csv", "list.txt", "names.txt"))
    index_videos(str(tree), out, format=format, annotations=annotations)  # type: ignore[arg-type]
    assert [row.label for row in read_manifest(out)] == ["0", "0", "1"]
    index_videos(str(tree), out, format=format, annotations=annotations, labels=names)  # type: ignore[arg-type]
    assert [(row.path, row.label) for row in read_manifest(out)][2] == ("videos/run/c d.mp4", "run")
