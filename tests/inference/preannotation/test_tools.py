"""What each labelling tool is given."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from farfield.errors import FarfieldError
from farfield.inference.preannotation.annotated_video import annotated_videos
from farfield.inference.preannotation.tools import check_annotatable, check_tools
from farfield.timelines.segments import Segment
from inference.preannotation.conftest import LABELS, Written, answer, write


def test_labelstudio_counts_each_video_at_its_own_rate(make_video: Callable[..., Path], tmp_path: Path) -> None:
    segments = [Segment(0.5, 1.5, "jump", 0.11, 0.75), Segment(1, 2, "a & <b>", 0.11, 0.25)]
    slow, fast = make_video(40, fps=10), make_video(90, fps=30)
    folder = write(tmp_path / "out", "labelstudio", [answer(slow, segments), answer(fast, segments)])
    tasks = json.loads((folder / "tasks.json").read_text())
    assert [task["data"]["fps"] for task in tasks] == [10, 30]
    assert [unquote(task["data"]["video"]) for task in tasks] == [
        f"/data/local-files/?d={path.parent.name}/{path.name}" for path in (slow, fast)
    ]
    predictions = [task["predictions"] for task in tasks]
    assert [[each["value"]["ranges"] for each in one["result"]] for [one] in predictions] == [
        [[{"start": 6, "end": 15}], [{"start": 11, "end": 20}]],
        [[{"start": 16, "end": 45}], [{"start": 31, "end": 60}]],
    ]
    [[first], _] = predictions
    assert (first["model_version"], first["score"]) == ("tiny", 0.5)
    assert [each["score"] for each in first["result"]] == [0.75, 0.25]
    assert len({each["id"] for each in first["result"]}) == 2

    config = ElementTree.parse(folder / "config.xml").getroot()
    assert [each.get("value") for each in config.iterfind("TimelineLabels/Label")] == LABELS
    assert config.find("Choices") is None
    names = {each["from_name"] for each in first["result"]}, {each["to_name"] for each in first["result"]}
    video = config.find("Video")
    assert video is not None
    assert (video.get("value"), video.get("frameRate")) == ("$video", "$fps")
    assert names == ({config.find("TimelineLabels").get("name")}, {video.get("name")})  # type: ignore[union-attr]


def test_labelstudio_takes_labels_of_whole_videos(make_video: Callable[..., Path], tmp_path: Path) -> None:
    video, other, part = make_video(40, fps=10), make_video(30, fps=10), make_video(20, fps=10)
    several = answer(video, None, ("jump", 0.9), ("never seen", 0.6), ("two  words", 0.4))
    of_part = answer(part, None, ("jump", 0.7), requested_start_seconds=1.0, requested_end_seconds=1.5)
    folder = write(tmp_path / "out", "labelstudio", [several, answer(other, None), of_part], timeline=False)
    one, none, timed = [task["predictions"][0] for task in json.loads((folder / "tasks.json").read_text())]
    [result] = one["result"]
    assert (result["type"], result["value"], result["score"]) == ("choices", {"choices": ["jump", "never seen"]}, 0.6)
    assert none == {"model_version": "tiny", "result": []}
    assert timed["result"][0]["value"] == {"ranges": [{"start": 11, "end": 15}], "timelinelabels": ["jump"]}
    config = ElementTree.parse(folder / "config.xml").getroot()
    choices = config.find("Choices")
    assert choices is not None
    assert choices.get("choice") == "multiple"
    assert choices.get("name") == result["from_name"]
    assert config.find("TimelineLabels") is not None


def test_tracks_end_after_their_last_frame_unless_the_video_does(written: Written) -> None:
    folder = written("cvat")
    root = ElementTree.parse(folder / "at_30.xml").getroot()
    shapes = {
        track.get("id"): [(int(box.get("frame", "")), box.get("outside")) for box in track]
        for track in root.iter("track")
    }
    assert shapes == {
        "0": [(0, "0"), (29, "0"), (30, "1")],
        "1": [(15, "0"), (66, "0"), (67, "1")],
        "2": [(39, "0"), (59, "0"), (60, "1")],
        "3": [(67, "0"), (86, "0"), (87, "1")],
        "4": [(88, "0"), (89, "1")],
    }
    assert {box.get("keyframe") for box in root.iter("box")} == {"1"}
    scores = [[each.text for each in track.iter("attribute")] for track in root.iter("track")]
    assert scores[1] == ["0.7123"] * 3  # CVAT takes the last one
    assert [each["name"] for each in json.loads((folder / "labels.json").read_text())] == LABELS


def test_a_track_to_the_end_names_no_frame_after_it(make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = make_video(40, fps=10)
    folder = write(
        tmp_path / "out",
        "cvat",
        [answer(video, [Segment(3, 4.2, "jump", 0.11, 0.9), Segment(3.9, 4, "jump", 0.11, 1)])],
    )
    root = ElementTree.parse(folder / f"{video.stem}.xml").getroot()
    frames = [[(box.get("frame"), box.get("outside")) for box in track] for track in root.iter("track")]
    assert frames == [[("30", "0"), ("39", "0")], [("39", "0")]]


def test_fiftyone_tells_apart_videos_that_differ_by_suffix(make_video: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a.mp4", "a.v2.mp4", "a.mov"):
        shutil.copy(make_video(20, fps=10), tmp_path / name)
    predictions = [
        answer(tmp_path / name, [Segment(0, 1, "jump", 0.11, 0.5)]) for name in ("a.mp4", "a.v2.mp4", "a.mov")
    ]
    folder = write(tmp_path / "out", "fiftyone", predictions)
    content = json.loads((folder / "labels.json").read_text())
    assert content["classes"] == LABELS
    detection = {"label": 0, "support": [1, 10], "confidence": 0.5}
    assert content["labels"] == {"a.mp4": [detection], "a.v2": [detection], "a.mov": [detection]}
    assert json.loads((folder / "data.json").read_text()) == {
        "a.mp4.mp4": str(tmp_path / "a.mp4"),
        "a.v2.mp4": str(tmp_path / "a.v2.mp4"),
        "a.mov.mov": str(tmp_path / "a.mov"),
    }


def test_elan_tiers_hold_no_overlapping_annotations(written: Written) -> None:
    folder = written("eaf")
    root = ElementTree.parse(folder / "at_30.eaf").getroot()
    assert [node.tag for node in root][:3] == ["HEADER", "TIME_ORDER", "TIER"]
    slots = [(slot.get("TIME_SLOT_ID"), int(slot.get("TIME_VALUE", ""))) for slot in root.iter("TIME_SLOT")]
    assert [value for _, value in slots] == sorted(value for _, value in slots)
    times = dict(slots)
    spans = {
        tier.get("TIER_ID"): [
            (times[each.get("TIME_SLOT_REF1")], times[each.get("TIME_SLOT_REF2")], each.findtext("ANNOTATION_VALUE"))
            for each in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
    }
    assert spans == {
        "actions": [
            (0, 1017, "jump"),
            (1310, 1990, 'it\'s "odd"'),
            (2220, 2900, "jump"),
            (2945, 2948, "two  words"),
        ],
        "probability": [],
        "actions 2": [(513, 2220, "a & <b>")],
        "probability 2": [],
    }
    parents = {each.get("ANNOTATION_ID"): each for each in root.iter("ALIGNABLE_ANNOTATION")}
    scores = {
        (parents[each.get("ANNOTATION_REF")].findtext("ANNOTATION_VALUE"), each.findtext("ANNOTATION_VALUE"))
        for each in root.iter("REF_ANNOTATION")
    }
    assert ("a & <b>", "0.7123") in scores
    assert len(scores) == 5
    assert [each.text for each in root.iter("CVE_VALUE")] == LABELS
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.get("MEDIA_URL", "").endswith("/my videos/at_30.mp4")
    assert (folder / media.get("RELATIVE_MEDIA_URL", "")).is_file()


def test_an_eaf_file_that_was_corrected_is_kept(videos: Path, tmp_path: Path) -> None:
    prediction = answer(videos / "at_30.mp4", [Segment(0, 1, "jump", 0.11, 0.5)])
    folder = write(tmp_path / "out", "eaf", [prediction])
    (folder / "at_30.eaf").write_text("corrected")
    write(tmp_path / "out", "eaf", [prediction, answer(videos / "none.mp4", [])])
    assert (folder / "at_30.eaf").read_text() == "corrected"
    assert (folder / "none.eaf").is_file()


def test_a_video_that_is_gone_is_left_out_with_a_warning(videos: Path, tmp_path: Path) -> None:
    (videos / "none.mp4").unlink()
    predictions = [answer(videos / "at_30.mp4", []), answer(videos / "none.mp4", [])]
    failed = answer(videos / "deep/at 30.mp4", None)
    with pytest.warns(UserWarning, match=r"none\.mp4 is left out of the files for labelling tools: "):
        found = annotated_videos([("a", predictions[0]), ("b", predictions[1])])
    assert [video.name for video in found] == ["a"]
    failed.ranking.clear()
    assert annotated_videos([("c", failed)]) == []


def test_names_that_are_not_utf_8(make_video: Callable[..., Path], tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(make_video(20, fps=10), tmp_path / odd)
    prediction = answer(tmp_path / odd, [Segment(0, 1, "jump", 0.11, 0.5)])
    for tool, name in (
        ("cvat", "caf.xml"),
        ("eaf", "caf.eaf"),
        ("labelstudio", "tasks.json"),
        ("fiftyone", "data.json"),
    ):
        folder = write(tmp_path / f"out_{tool}", tool, [prediction])
        text = (folder / name).read_text(encoding="utf-8")
        assert {"labelstudio": "caf%E9.mp4", "fiftyone": r"caf\udce9.mp4"}.get(tool, "caf\ufffd.mp4") in text


def test_mistakes_are_named_before_a_prediction_begins(tmp_path: Path) -> None:
    check_tools(["labelstudio", "csv"], timeline=False)
    check_tools(["eaf"], timeline=True)
    with pytest.raises(
        FarfieldError, match=r"^cvat files need the times of actions, which only a timeline has\. Give timeline"
    ):
        check_tools(["csv", "cvat"], timeline=False)
    check_annotatable(["csv"], [str(tmp_path)], ["a\x00b"])
    with pytest.raises(FarfieldError, match="is a folder of pictures, which eaf cannot show as a video"):
        check_annotatable(["eaf"], [str(tmp_path)], [])
    with pytest.raises(FarfieldError, match=r"'a\\x00b' has a character that XML does not allow"):
        check_annotatable(["eaf"], [], ["a\x00b"])
