from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.moments import read_moments
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

ROWS = """\
flying/yt-0123456_-aB_205.mp4,flying,3,0
playing+kites/site-kites-id17_4.mp4,playing+kites,4,1
flying/plain.mp4,flying,3,0
flying/unknown_1.mp4,,0,0
"""


@pytest.fixture
def source(tmp_path: Path) -> AnnotationSource:
    (tmp_path / "trainingSet.csv").write_text(ROWS)
    (tmp_path / "moments_categories.txt").write_text("playing+kites,1\nflying,0\n")
    for name in ("training/flying/yt-0123456_-aB_205.mp4", "validation/other/yt-0123456_-aB_205.mp4"):
        (tmp_path / "mit" / name).parent.mkdir(parents=True)
        (tmp_path / "mit" / name).touch()
    return AnnotationSource(tmp_path / "mit", tmp_path / "trainingSet.csv", labels=tmp_path / "moments_categories.txt")


def test_a_missing_video_is_not_that_of_another_class(source: AnnotationSource) -> None:
    (source.root / "validation/other/site_4.mp4").touch()
    source.annotations.write_text("flying/site_4.mp4,flying,3,0\nmoved/site_4.mp4,playing+kites,3,0\n")
    rows = [(row.path, row.label) for row in read_moments(source)]
    assert rows == [("flying/site_4.mp4", "flying"), ("validation/other/site_4.mp4", "playing+kites")]


def test_rows_without_a_header(source: AnnotationSource) -> None:
    assert list(read_moments(source)) == [
        VideoRecord("training/flying/yt-0123456_-aB_205.mp4", "flying", group="yt-0123456_-aB"),
        VideoRecord("playing+kites/site-kites-id17_4.mp4", "playing+kites", group="site-kites-id17"),
        VideoRecord("flying/plain.mp4", "flying"),
    ]
    assert source.left_out == [("flying/unknown_1.mp4", "it has no label")]


@pytest.mark.parametrize(
    ("rows", "categories", "message"),
    [
        (
            "path,label,agreement,disagreement\n",
            "flying,0\n",
            r"line 1: 'path,label,.*' must be a path, a label and two .* no header",
        ),
        ("flying/a_1.mp4,flying,3\n", "flying,0\n", r"trainingSet\.csv, line 1: 'flying/a_1\.mp4,flying,3' must be"),
        ("f/a_1.mp4,flyin,3,0\n", "flying,0\n", r"has no class 'flyin'\. .*Did you mean 'flying'"),
        ("f/a_1.mp4,flying,3,0\n", "flying\n", r"categories\.txt, line 1: 'flying' must be `label,index`"),
        ("f/a_1.mp4,flying,3,0\n", "flying,1\n", "the indices in .* must run from 0 to 0, without a gap"),
    ],
)
def test_mistakes(source: AnnotationSource, rows: str, categories: str, message: str) -> None:
    source.annotations.write_text(rows)
    assert source.labels is not None
    source.labels.write_text(categories)
    with pytest.raises(FarfieldError, match=message):
        list(read_moments(source))


def test_moments_become_a_manifest(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    (tmp_path / "validation/flying").mkdir(parents=True)
    shutil.copy(make_video(40), tmp_path / "validation/flying/yt-0123456_-aB_205.mp4")
    (tmp_path / "validationSet.csv").write_text(ROWS)
    out = tmp_path / "m.csv"
    made = index_videos(tmp_path, out, format="moments", annotations=tmp_path / "validationSet.csv", num_workers=1)
    assert [(row.path, row.group) for row in read_manifest(out)] == [
        ("validation/flying/yt-0123456_-aB_205.mp4", "yt-0123456_-aB")
    ]
    assert [reason for _, reason in made.failures] == ["it has no label", *2 * ["there is no such file"]]
