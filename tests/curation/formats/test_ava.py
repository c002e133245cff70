from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farfield.curation.formats.ava import refuse_boxes
from farfield.curation.index import FORMATS, index_videos
from farfield.errors import FarfieldError

BOXES = "-a_b-c_d-e0,0902,0.077,0.151,0.283,0.811,80,1\n-a_b-c_d-e0,0902,0.077,0.151,0.283,0.811,9,1\n"


@pytest.mark.parametrize(
    "rows",
    [
        BOXES,
        "-a_b-c_d-e0,0902,0.077,0.151,0.283,0.811,80\n",  # without a person
        "-a_b-c_d-e0,0902,0.077,0.151,0.283,0.811,,0.99\n",  # proposals
        "-a_b-c_d-e0,0902,,,,,,\n" + BOXES,  # AVA-Kinetics
        "video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id\n" + BOXES,
    ],
)
def test_boxes_are_recognised(tmp_path: Path, rows: str) -> None:
    (tmp_path / "boxes.csv").write_text(rows)
    with pytest.raises(
        FarfieldError, match=r"boxes\.csv has AVA's rows, boxes of persons .* spatio-temporal detection"
    ):
        refuse_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "jump/a.mp4,0\n",
        "a.mp4 3 4 5\n",
        "label,youtube_id,time_start,time_end,split,is_cc\nrun,0123456789A,0,1,train,0\n",
        "a,0902,0.077,0.151,0.283,1.811,80,1\n",
    ],
)
def test_other_rows_pass(tmp_path: Path, rows: str) -> None:
    (tmp_path / "list.csv").write_text(rows)
    refuse_boxes(tmp_path / "list.csv")
    refuse_boxes(tmp_path)
    refuse_boxes(tmp_path / "missing.csv")


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_refuses_boxes(tmp_path: Path, format: Any) -> None:
    (tmp_path / "boxes.csv").write_text(BOXES)
    with pytest.raises(FarfieldError, match="has AVA's rows, boxes of persons"):
        index_videos(tmp_path, tmp_path / "m.csv", format=format, annotations=tmp_path / "boxes.csv")


def test_the_format_is_refused_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match="AVA's annotations are boxes of persons at single times"):
        index_videos(tmp_path, tmp_path / "m.csv", format="ava")
