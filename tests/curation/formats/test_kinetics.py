from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest


def test_kinetics_files_without_a_row_are_recorded_as_skipped(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    root = tmp_path / "k"
    names = ["part_0/0123456789A_000000_000010.mp4", "replacement/0123456789A_000000_000010.mp4"]
    for name in [*names, "part_0/unlisted_id_000001_000011.mp4", "part_0/trailer.mp4"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(40), root / name)
    csv = tmp_path / "kinetics.csv"
    csv.write_text("label,youtube_id,time_start,time_end,split\nsneezing,0123456789A,0,10,train\n")
    out = str(tmp_path / "m.csv")
    made = index_videos(str(root), out, format="kinetics", annotations=str(csv), num_workers=1, list_left_out=True)
    assert [row.path for row in read_manifest(out)] == [f"k/{names[1]}"]
    assert {(Path(path).relative_to(root).as_posix(), reason.name) for path, reason in made.skipped.names} == {
        (names[0], "SAME_CLIP"),
        ("part_0/unlisted_id_000001_000011.mp4", "NOT_ANNOTATED"),
        ("part_0/trailer.mp4", "OTHER_NAME"),
    }


def test_kinetics_csv(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    root = tmp_path / "k"
    (root / "some class").mkdir(parents=True)
    shutil.copy(make_video(40), root / "some class" / "-a_b-c_d-e0_000012_000022.mp4")
    shutil.copy(make_video(40), root / "0123456789A_000000_000010.mp4")
    csv = tmp_path / "kinetics.csv"
    csv.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "high jump,-a_b-c_d-e0,12,22,train\n"
        "sneezing,0123456789A,0,10,train\n"
        "sneezing,neverLoaded,5,15,train\n"
    )
    made = index_videos(str(root), str(tmp_path / "m.csv"), format="kinetics", annotations=str(csv))
    rows = {row.path: row.label for row in read_manifest(tmp_path / "m.csv")}
    assert rows == {
        "k/some class/-a_b-c_d-e0_000012_000022.mp4": "high jump",
        "k/0123456789A_000000_000010.mp4": "sneezing",
    }
    assert made.failures == [(str(root / "neverLoaded_000005_000015.mp4"), "there is no such file")]
