from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.mmaction2 import read_mmaction2
from farfield.curation.formats.pyslowfast import read_pyslowfast
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

Reader = Callable[[AnnotationSource], Iterator[VideoRecord]]


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    """Videos with and without blanks in their names, and folders of 5 frames."""
    root = tmp_path / "videos"
    for name in ("jump/a.mp4", "run/c d.mp4", "no suffix"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("one", "two", "with flow"):
        (root / "frames" / name).mkdir(parents=True)
        for i in range(1, 6):
            (root / "frames" / name / f"img_{i:05}.jpg").touch()
    (root / "frames/with flow/flow_x_00001.jpg").touch()
    return AnnotationSource(root, tmp_path / "list.txt")


def read(source: AnnotationSource, reader: Reader, text: str, names: str | None = None) -> list[tuple[str, str]]:
    source.annotations.write_text(text)
    if names is not None:
        source.labels = source.annotations.with_name("names.txt")
        source.labels.write_text(names)
    return [(record.path, record.label) for record in reader(source)]


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


def test_mmaction2_videos_with_several_labels_or_none(source: AnnotationSource) -> None:
    text = "jump/a.mp4 1 3 1\nrun/c d.mp4 0 2\r\nno suffix 2\ngone/x y.mp4 3\njump/a.mp4\n"
    assert read(source, read_mmaction2, text) == [
        ("jump/a.mp4", "1|3"),
        ("run/c d.mp4", "0|2"),
        ("no suffix", "2"),
        ("gone/x y.mp4", "3"),
    ]
    assert source.left_out == [("jump/a.mp4", "it has no label")]


def test_mmaction2_folders_of_frames(source: AnnotationSource) -> None:
    text = "frames/one 5 3\nframes/with flow 5 1 2\nframes/two 4 3\nframes/gone 163 1\nframes/two 5\n"
    assert read(source, read_mmaction2, text) == [
        ("frames/one", "3"),
        ("frames/with flow", "1|2"),
        ("frames/gone", "1"),
    ]
    assert source.left_out == [
        ("frames/two", "the number of frames is 4 in the list, but 5 in the folder"),
        ("frames/two", "it has no label"),
    ]


def test_mmaction2_folders_with_offset(source: AnnotationSource) -> None:
    text = "frames/one 0 5 3\nframes/one 2 3 1\nframes/two 7 9 1\nframes/gone 12 163 2\n"
    assert read(source, read_mmaction2, text) == [("frames/one", "3"), ("frames/gone", "2")]
    assert source.left_out == [
        ("frames/one", "the list labels only 3 of the folder's 5 frames, from frame 2 on"),
        ("frames/two", "the numbers 7 9 fit the folder's 5 frames neither as `offset total` nor as `total label`"),
    ]
    assert read(source, read_mmaction2, "frames/one 5 3 1\n") == [("frames/one", "3|1")]


def test_pyslowfast_forms_of_a_line(source: AnnotationSource) -> None:
    text = "jump/a.mp4 2\njump/a.mp4 250 3\nrun/c d.mp4 4\nrun/c d.mp4\nno suffix,5\n"
    assert read(source, read_pyslowfast, text) == [
        ("jump/a.mp4", "2"),
        ("jump/a.mp4", "3"),
        ("run/c d.mp4", "4"),
        ("no suffix", "5"),
    ]
    assert source.left_out == [
        ("run/c d.mp4", "it has no label (PySlowFast uses class 0; for this class, write `path 0`)")
    ]


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_pyslowfast, 'original_vido_id video_id frame_id path labels\nA 0 0 A/1.jpg "1"\n', "--format charades"),
        (read_pyslowfast, "a.mp4 1 2 3\n", r"line 1: 3 numbers follow 'a\.mp4'\. .* give --format mmaction2"),
        (read_mmaction2, "a.mp4 0\nsome video 1\n", r"line 2: 'some video 1' must be .* write `path,label`"),
        (read_mmaction2, "a.mp4 -1\n", r"line 1: 'a\.mp4 -1' must be `path label`, where the label is a number"),
    ],
)
def test_malformed_lists(source: AnnotationSource, reader: Reader, text: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        read(source, reader, text)


def test_a_line_that_names_two_existing_paths_is_refused(source: AnnotationSource) -> None:
    (source.root / "frames/one 5").touch()
    with pytest.raises(FarfieldError, match=r"'frames/one' and 'frames/one 5' both exist .*\. Rename one"):
        read(source, read_mmaction2, "frames/one 5 3\n")


def test_class_numbers_come_from_a_numbered_file(source: AnnotationSource) -> None:
    numbered = "1 Jump Rope\r\n2 Run\r\n"
    assert read(source, read_mmaction2, "a.mp4 1\nb.mp4 2\n", numbered) == [("a.mp4", "Jump Rope"), ("b.mp4", "Run")]
    with pytest.raises(FarfieldError, match=r"line 2: the label is 0, .* are 1 to \d+\. .* first_label=0 if"):
        read(source, read_mmaction2, "b.mp4 1\na.mp4 0\n", numbered)
    source.first_label = 0
    assert read(source, read_mmaction2, "a.mp4 1\nb.mp4 0\n", numbered) == [("a.mp4", "Run"), ("b.mp4", "Jump Rope")]


def test_the_first_number_of_plain_class_names_is_not_guessed(source: AnnotationSource) -> None:
    text, names = "a.mp4 1\nb.mp4 2\n", "jump\nrun\n"
    with pytest.raises(
        FarfieldError,
        match=r"labels from 1 to 2, but none that is 0\. .* 3 classes in .*Give first_label=0 or first_label=1",
    ):
        read(source, read_pyslowfast, text, names + "walk\n")
    assert read(source, read_pyslowfast, text, names) == [
        ("a.mp4", "jump"),
        ("b.mp4", "run"),
    ]  # 0 and 1 name no label 2
    source.first_label = 1
    assert read(source, read_pyslowfast, text, names) == [("a.mp4", "jump"), ("b.mp4", "run")]
    source.first_label = 0
    with pytest.raises(FarfieldError, match="line 2: the label is 2, but the labels with class names are"):
        read(source, read_pyslowfast, text, names)
    source.first_label = 2
    with pytest.raises(FarfieldError, match="first_label is 2; it must be 0 or 1"):
        read(source, read_pyslowfast, text, names)
    source.labels, source.first_label = None, 1
    with pytest.raises(FarfieldError, match="first_label needs a file of class names"):
        read(source, read_pyslowfast, text)
