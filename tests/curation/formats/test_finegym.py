from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.finegym import read_finegym
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError

CATEGORIES = """\
Clabel:   0; set:  1; Glabel:   1; (VT) round-off, flic-flac on, stretched off
Clabel:   1; set: 21; Glabel: 104; (FX) hop      \r
Clabel:  57; set: 33; Glabel: 289; (BB) roll backward
Clabel:  58; set: 35; Glabel: 358; (BB) roll backward
"""
FLIGHT, VAULT, OTHER = (
    "_a_E_b-c_d-_E_000100_000130_A_0003_0003",
    "_a_E_b-c_d-_E_000140_000147_A_0000_0006",
    "0123456789A_E_000000_000007_A_0000_0006",
)
TIMES = {
    "_a_E_b-c_d-": {
        "E_000100_000130": {
            "event": 3,
            "segments": {"A_0003_0003": {"stages": 1, "timestamps": [[3.12, 3.92]]}},
            "timestamps": [[100.75, 130.2]],
        },
        "E_000140_000147": {
            "event": 1,
            "segments": {"A_0000_0006": {"stages": 3, "timestamps": [[0.04, 3.2], [3.2, 4.49], [4.49, 6.57]]}},
            "timestamps": [[140.88, 147.48]],
        },
        "E_000200_000230": {"event": 5, "segments": None, "timestamps": [[200.0, 230.0]]},
    }
}


def source_of(folder: Path, lines: str, categories: str | None = None, name: str = "gym99.txt") -> AnnotationSource:
    (folder / "videos/cut").mkdir(parents=True)
    (folder / "gym99_val_element.txt").write_text(lines)
    if categories is not None:
        (folder / name).write_text(categories)
    return AnnotationSource(
        folder / "videos", folder / "gym99_val_element.txt", None if categories is None else folder / name
    )


def test_cut_files_and_classes_with_one_name(tmp_path: Path) -> None:
    source = source_of(tmp_path, f"{FLIGHT} 57\n{VAULT} 0\r\n\n{OTHER} 58\n{OTHER[:-1]}7 1\n", CATEGORIES)
    for name in (FLIGHT, VAULT, "_a_E_b-c_d-"):
        (source.root / f"cut/{name}.mp4").touch()
    found = [(each.path, each.label, each.start_seconds, each.group) for each in read_finegym(source)]
    assert (
        found
        == [
            (f"cut/{FLIGHT}.mp4", "(BB) roll backward [Glabel 289]", None, "_a_E_b-c_d-"),
            (f"cut/{VAULT}.mp4", "(VT) round-off, flic-flac on, stretched off", None, "_a_E_b-c_d-"),
            (f"{OTHER}.mp4", "(BB) roll backward [Glabel 358]", None, "0123456789A"),  # is not there
            (f"{OTHER[:-1]}7.mp4", "(FX) hop", None, "0123456789A"),
        ]
    )
    assert source.left_out == []


def test_whole_videos_need_the_exact_times(tmp_path: Path) -> None:
    source = source_of(tmp_path, f"{FLIGHT} 57\n{VAULT} 0\n_a_E_b-c_d-_E_000200_000230_A_0001_0002 1\n")
    (source.root / "_a_E_b-c_d-.mkv").touch()
    assert list(read_finegym(source)) == []
    assert source.left_out[0] == (
        FLIGHT,
        "its times are unknown; put finegym_annotation_info_v1.1.json into the folder of the list",
    )
    source.left_out.clear()
    (tmp_path / "finegym_annotation_info_v1.1.json").write_text(json.dumps(TIMES))
    assert [(each.path, each.label, each.start_seconds, each.end_seconds) for each in read_finegym(source)] == [
        ("_a_E_b-c_d-.mkv", "57", 103.87, 104.67),
        ("_a_E_b-c_d-.mkv", "0", 140.92, 147.45),
    ]
    assert source.left_out == [
        (
            "_a_E_b-c_d-_E_000200_000230_A_0001_0002",
            "finegym_annotation_info*.json in the folder of the list has no times of this element",
        )
    ]
    (tmp_path / "finegym_annotation_info_v1.0.json").write_text("{}")
    with pytest.raises(FarfieldError, match=r"several files of exact times: finegym_annotation_info_v1\.0\.json, "):
        list(read_finegym(source))


def test_an_id_with_several_labels_is_left_out(tmp_path: Path) -> None:
    """Its times in whole seconds do not tell two short elements of one second apart."""
    source = source_of(tmp_path, f"{FLIGHT} 57\n{VAULT} 0\n{FLIGHT} 1\n{VAULT} 0\n")
    assert [(each.path, each.label) for each in read_finegym(source)] == [(f"{VAULT}.mp4", "0")]
    assert source.left_out == [(FLIGHT, "the list has this element several times, with the labels 57, 1")]


@pytest.mark.parametrize(
    ("lines", "categories", "name", "message"),
    [
        (
            "_a_E_b-c_d- 3\n",
            None,
            "",
            r"element\.txt, line 1: '_a_E_b-c_d- 3' must be `<YouTube id>_E_<start>_<end>_A_",
        ),
        (
            f"\n{FLIGHT} 2\n",
            CATEGORIES,
            "c.txt",
            r"element\.txt, line 2: the label is 2, but .*c\.txt has no such Clabel",
        ),
        (
            f"{FLIGHT} 1\n",
            "(BB) a\n",
            "c.txt",
            r"c\.txt, line 1: '\(BB\) a' must be `Clabel: <number>; set: <number>; G",
        ),
        (f"{FLIGHT} 1\n", CATEGORIES, "gym288_categories.txt", r"is of Gym99, the other of Gym288\. Give"),
        (f"{FLIGHT} 1\n", CATEGORIES + CATEGORIES[:80], "c.txt", r"c\.txt, line 5: Clabel 0 occurs twice"),
    ],
)
def test_malformed_files(tmp_path: Path, lines: str, categories: str | None, name: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        list(read_finegym(source_of(tmp_path, lines, categories, name)))


def test_segments_reach_the_manifest(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = source_of(tmp_path, f"{FLIGHT} 57\n{VAULT} 0\n", CATEGORIES)
    (tmp_path / "finegym_annotation_info_v1.1.json").write_text(json.dumps(TIMES))
    shutil.copy(make_video(40, fps=0.25), source.root / "_a_E_b-c_d-.mp4")
    out = tmp_path / "m.csv"
    labels = source.labels
    index_videos(source.root, out, format="finegym", annotations=source.annotations, labels=labels, num_workers=1)
    assert [(row.label, row.start_seconds, row.end_seconds, row.group) for row in read_manifest(out)] == [
        ("(BB) roll backward [Glabel 289]", 103.87, 104.67, "_a_E_b-c_d-"),
        ("(VT) round-off, flic-flac on, stretched off", 140.92, 147.45, "_a_E_b-c_d-"),
    ]
