from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation import index
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError
from video.encoding import encode


def test_a_folder_tree(tree: Path, tmp_path: Path) -> None:
    made = index_videos(str(tree), str(tmp_path / "m.csv"), num_workers=2)
    rows = list(read_manifest(tmp_path / "m.csv"))
    assert [(row.path, row.label) for row in rows] == [
        ("videos/jump/a.mp4", "jump"),
        ("videos/jump/more/b.mp4", "jump"),
        ("videos/run/c d.mp4", "run"),
    ]
    row = rows[0]
    assert (row.num_frames, row.fps, row.width, row.height, row.duration_seconds) == (40, 20, 96, 48, 2)
    assert [Path(path).name for path, _ in made.failures] == ["notes.mp4"]


def test_mistakes_are_named(tree: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.csv")
    with pytest.raises(FarfieldError, match="root is /nowhere, which is not a folder"):
        index_videos("/nowhere", out)
    with pytest.raises(FarfieldError, match="format='kinetics' needs annotations"):
        index_videos(str(tree), out, format="kinetics")
    (tmp_path / "splits/train/jump").mkdir(parents=True)
    (tmp_path / "splits/Val/jump").mkdir(parents=True)
    with pytest.raises(FarfieldError, match=r"splits are splits, not classes: Val, train\. Give each"):
        index_videos(str(tmp_path / "splits"), out)
    for name in ("train/jump", "Val/jump", "holdout"):
        (tmp_path / "splits" / name).mkdir(exist_ok=True)
        shutil.copy(tree / "jump/a.mp4", tmp_path / "splits" / name)
    (tmp_path / "splits/annotations").mkdir()
    with pytest.raises(FarfieldError, match=r"splits are splits, not classes: Val, train\. Give each"):
        index_videos(str(tmp_path / "splits"), out)
    (tmp_path / "list.txt").write_text("a.mp4 jump\n")
    with pytest.raises(
        FarfieldError, match=r"list\.txt, line 1: 'a\.mp4 jump' must be `path label`, where the label is a number"
    ):
        index_videos(str(tree), out, format="pyslowfast", annotations=str(tmp_path / "list.txt"))
    assert not Path(out).exists()


def test_a_folder_name_may_begin_with_a_blank(tree: Path, tmp_path: Path) -> None:
    (tree / "jump").rename(tree / " jump")
    index_videos(str(tree), str(tree / "m.csv"))
    manifest = read_manifest(tree / "m.csv")
    assert manifest.labels == ["jump", "run"]
    assert all(manifest.path(row).is_file() for row in range(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--annotations", "list.txt"],
            "takes no annotations. Leave annotations out, or give one of these formats: kinetics, ",
        ),
        (["--labels", "list.txt"], "takes no labels. Leave labels out, or give one of these formats: ucf101, "),
        (["--format", "kinetics", "--annotations", "latin.txt"], "latin.txt is not UTF-8 text"),
        (["--format", "pyslowfast", "--annotations", "latin.txt"], "latin.txt is not UTF-8 text"),
        (["--format", "mmaction2", "--annotations", "."], "there is no file .. Give a list with one line `path label`"),
        (["--format", "kinetics", "--annotations", "."], "there is no file .. Give Kinetics' CSV"),
        (["--out_is", "videos"], "videos is a folder. Give a file, for example videos/manifest.csv"),
        (["--out_is", "list.txt/m.csv"], "list.txt cannot be created: "),
    ],
)
def test_mistakes_of_the_command_are_one_line(
    options: list[str],
    message: str,
    tree: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before a video is opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("jump/a.mp4 0\n")
    (tmp_path / "latin.txt").write_bytes("label,youtube_id,time_start\nläuft.mp4 0\n".encode("latin-1"))
    monkeypatch.setattr(index, "for_each", lambda *_args, **_options: pytest.fail("a video was opened"))
    words = ["videos", options[1]] if options[0] == "--out_is" else ["videos", "m.csv", *options]
    assert run_farfield("data", "index", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("farfield data index: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_index_is_the_same_with_both_decoders(tmp_path: Path, run_farfield: Callable[..., int]) -> None:
    for label, name in (("x", "a.mp4"), ("y", "b.ts")):
        (tmp_path / "videos" / label).mkdir(parents=True)
        encode(tmp_path / "videos" / label / name, num_frames=30)
    for decoder in ("pyav", "decord"):
        out = tmp_path / f"{decoder}.csv"
        assert run_farfield("data", "index", tmp_path / "videos", out, f"--decoder={decoder}", "--num_workers=1") == 0
    assert len(read_manifest(tmp_path / "pyav.csv")) == 2
    assert (tmp_path / "decord.csv").read_text() == (tmp_path / "pyav.csv").read_text()


def test_segments_after_the_end_of_their_video_are_left_out(
    make_video: Callable[..., Path],
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(make_video(50), tmp_path / "a.mp4")  # its last frame is at 1.96 s
    rows = ["a.mp4,run,0,1", "a.mp4,sit,1.96,3", "a.mp4,run,1.97,3", "a.mp4,sit,9,"]
    (tmp_path / "rows.csv").write_text("\n".join(["path,label,start_seconds,end_seconds", *rows]) + "\n")
    command = ["data", "index", tmp_path, tmp_path / "m.csv", "--format=table", "--num_workers=1", "--annotations"]
    assert run_farfield(*command, tmp_path / "rows.csv") == 1
    said = capsys.readouterr()
    assert "m.csv: 2 segments in 1 videos of 2 classes" in said.out
    for segment in ("[1.97, 3)", "[9, end)"):
        reason = f"the segment {segment} s begins after the video's end; the video's last frame is at 1.960 s"
        assert f"left out: {tmp_path / 'a.mp4'}: {reason}" in said.err
    assert "videos and segments left out: 2" in said.err
    assert [record.start_seconds for record in read_manifest(tmp_path / "m.csv")] == [0, 1.96]
    (tmp_path / "rows.csv").write_text("path,label,start_seconds\na.mp4,run,2\na.mp4,run,3\n")
    assert run_farfield(*command, tmp_path / "rows.csv") == 2
    assert "no video can be read (1 tried). The first failure is" in capsys.readouterr().err
