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


@pytest.fixture
def tree(tmp_path: Path, make_video: Callable[..., Path], bad_files: dict[str, Path]) -> Path:
    root = tmp_path / "videos"
    for name in ("jump/a.mp4", "jump/more/b.mp4", "run/c d.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(40, fps=20), root / name)
    shutil.copy(bad_files["text"], root / "run/notes.mp4")
    return root


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


def test_mistakes_are_named(tree: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.csv")
    with pytest.raises(FarfieldError, match="root is /nowhere, which is no folder"):
        index_videos("/nowhere", out)
    with pytest.raises(FarfieldError, match="format='kinetics' needs annotations"):
        index_videos(str(tree), out, format="kinetics")
    (tmp_path / "splits/train/jump").mkdir(parents=True)
    (tmp_path / "splits/Val/jump").mkdir(parents=True)
    with pytest.raises(
        FarfieldError, match=r"splits are splits, and would be taken for classes: Val, train\. Index each"
    ):
        index_videos(str(tmp_path / "splits"), out)
    (tmp_path / "list.txt").write_text("a.mp4 jump\n")
    with pytest.raises(FarfieldError, match=r"list\.txt, line 1: 'a\.mp4 jump' is not `path label` with a number"):
        index_videos(str(tree), out, format="pyslowfast", annotations=str(tmp_path / "list.txt"))
    assert not Path(out).exists()


def test_a_folder_that_begins_with_a_blank_is_found_again(tree: Path, tmp_path: Path) -> None:
    (tree / "jump").rename(tree / " jump")
    index_videos(str(tree), str(tree / "m.csv"))
    manifest = read_manifest(tree / "m.csv")
    assert manifest.labels == ["jump", "run"]
    assert all(manifest.path(row).is_file() for row in range(3))


def test_a_class_name_that_is_there_twice_is_refused_by_every_command(
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Gym99's map has "(BB) salto backward tucked" on lines 59 and 71."""
    names = [f"class {number}" for number in range(99)]
    names[58] = names[70] = "(BB) salto backward tucked"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gym99.txt").write_text("\n".join([*names[:70], f"{names[70]}  ", *names[71:]]) + "\n")
    (tmp_path / "list.txt").write_text("a.mp4 58\nb.mp4 70\n")
    (tmp_path / "m.csv").write_text("path,label\na.mp4,jump\n")
    (tmp_path / "weights.pth").write_bytes(b"")
    for words in (
        [
            "data",
            "index",
            ".",
            "out.csv",
            "--format",
            "mmaction2",
            "--annotations",
            "list.txt",
            "--labels",
            "gym99.txt",
        ],
        ["data", "subset", "m.csv", "out.csv", "--class_file", "gym99.txt"],
        ["data", "verify", "m.csv", "--class_file", "gym99.txt"],
        ["convert", "weights.pth", "out.ckpt", "--labels", "gym99.txt"],
    ):
        assert run_farfield(*words) == 2
        error = capsys.readouterr().err
        assert "gym99.txt has a class name more than once: '(BB) salto backward tucked' on lines 59, 71. " in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--annotations", "list.txt"], "format='folders' takes no annotations; kinetics, pyslowfast, mmaction2 do"),
        (["--labels", "list.txt"], "format='folders' takes no labels; pyslowfast, mmaction2 do. Leave it out"),
        (["--format", "kinetics", "--annotations", "latin.txt"], "latin.txt is no text in UTF-8"),
        (["--format", "pyslowfast", "--annotations", "latin.txt"], "latin.txt is no text in UTF-8"),
        (["--format", "mmaction2", "--annotations", "."], "there is no file .. Give a list with a line `path label`"),
        (["--format", "kinetics", "--annotations", "."], "there is no file .. Give Kinetics' CSV"),
        (["--out_is", "videos"], "videos is a folder. Name a file, as videos/manifest.csv"),
        (["--out_is", "list.txt/m.csv"], "list.txt cannot be made: "),
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
