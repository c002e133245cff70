from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.ucf101 import read_ucf101
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

CLASSES = "1 FlyKites\r\n2 HandstandPushups\r\n"


def make_source(tmp_path: Path, text: str, *files: str, classes: str | None = None) -> AnnotationSource:
    for name in ("", *files):
        (tmp_path / "ucf" / name).parent.mkdir(parents=True, exist_ok=True)
        if name:
            (tmp_path / "ucf" / name).touch()
    (tmp_path / "list.txt").write_bytes(text.encode())
    (tmp_path / "classInd.txt").write_bytes((classes or "").encode())
    return AnnotationSource(
        tmp_path / "ucf", tmp_path / "list.txt", labels=None if classes is None else tmp_path / "classInd.txt"
    )


def test_a_train_list(tmp_path: Path) -> None:
    text = "FlyKites/v_FlyKites_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g25_c07.avi 2\r\n\r\n"
    source = make_source(tmp_path, text, "FlyKites/v_FlyKites_g08_c01.avi", classes=CLASSES)
    assert list(read_ucf101(source)) == [
        VideoRecord("FlyKites/v_FlyKites_g08_c01.avi", "FlyKites", group="FlyKites_g08"),
        VideoRecord(
            "HandstandPushups/v_HandStandPushups_g25_c07.avi", "HandstandPushups", group="HandstandPushups_g25"
        ),
    ]


def test_a_test_list_has_no_numbers_and_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    text = "".join(f"FlyKites/v_FlyKites_g0{i}_c01.avi\r\n" for i in (1, 2, 3))
    files = ["UCF-101/FlyKites/v_FlyKites_g01_c01.avi", "copy/v_FlyKites_g01_c01.avi", "v_FlyKites_g02_c01.mp4"]
    source = make_source(tmp_path, text, *files, "x/v_FlyKites_g03_c01.avi", "y/v_FlyKites_g03_c01.avi")
    assert [record.path for record in read_ucf101(source)] == [files[0], files[2]]
    assert source.left_out == [
        (
            "FlyKites/v_FlyKites_g03_c01.avi",
            "several videos have this name: x/v_FlyKites_g03_c01.avi, y/v_FlyKites_g03_c01.avi",
        )
    ]


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        (
            "FlyKites/v_FlyKites_g08_c01.avi 2\r\n",
            CLASSES,
            r"line 1: the class number is 2, but in .*classInd.txt 'FlyKites' has number 1",
        ),
        ("FlyKite/v_FlyKite_g08_c01.avi\r\n", CLASSES, r"has no class 'FlyKite'\. .*Did you mean 'FlyKites'"),
        (
            "FlyKites/v_FlyKites_g08_c01.avi 1\r\n",
            "FlyKites\nX\n",
            r"has no numbered lines such as `1 ApplyEyeMakeup`\. Give .*classInd\.txt",
        ),
        ("\nv_FlyKites_g08_c01.avi 1\r\n", None, r"line 2: 'v_FlyKites_g08_c01\.avi 1' must be `Class/v_Class_g01_c01"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, classes: str | None, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_ucf101(make_source(tmp_path, text, classes=classes)))


def test_ucf101_and_hmdb51_become_manifests(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    names = ["FlyKites/v_FlyKites_g08_c01.avi", "fly/-A_#1_fly_f_cm_np1_ba_med_0.avi"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        shutil.copy(make_video(40), tmp_path / name)
    (tmp_path / "testlist01.txt").write_text("FlyKites/v_FlyKites_g08_c01.avi\r\n")
    (tmp_path / "fly_test_split1.txt").write_text("-A_#1_fly_f_cm_np1_ba_med_0.avi 1 \n")
    out = tmp_path / "m.csv"
    index_videos(tmp_path, out, format="ucf101", annotations=tmp_path / "testlist01.txt", num_workers=1)
    assert [(row.path, row.label, row.group) for row in read_manifest(out)] == [(names[0], "FlyKites", "FlyKites_g08")]
    index_videos(tmp_path, out, format="hmdb51", annotations=tmp_path, split=1, subset="train", num_workers=1)
    assert [(row.path, row.label, row.group) for row in read_manifest(out)] == [(names[1], "fly", "-A_#1")]
