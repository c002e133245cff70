"""`farfield predict` on the rows of a manifest: segments of videos, and folders of pictures with their frame rates."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from conftest import write_pictures
from farfield import build_model, predict
from farfield.checkpoints.checkpoint import save_model
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import PredictOptions, predict_file
from farfield.models.network import ActionNet
from farfield.scoring.load import load_model
from farfield.timelines.options import TimelineOptions
from farfield.video.decoders import open_video
from farfield.video.writer import write_video

Run = Callable[..., int]
FPS = 25


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    clip = {"num_frames": 4, "frame_stride": 2, "crop_px": 24, "num_clips": 3, "num_crops": 1}
    save_model(build_model("tiny", labels=["jump", "run", "wave"], clip=clip), path)
    return path


@pytest.fixture
def model(checkpoint: Path) -> ActionNet:
    return load_model(checkpoint, device="cpu")  # type: ignore[return-value]


@pytest.fixture
def whole_and_cut(tmp_path: Path) -> tuple[Path, Path]:
    """A video of 70 frames, and one of its frames 20 to 49, which are 0.8 s to 2 s; both lossless."""
    frames = np.random.default_rng(3).integers(0, 256, (70, 1, 1, 3), np.uint8).repeat(32, 1).repeat(48, 2)
    write_video(tmp_path / "whole.mp4", frames, fps=FPS, crf=0)
    write_video(tmp_path / "cut.mp4", frames[20:50], fps=FPS, crf=0)
    return tmp_path / "whole.mp4", tmp_path / "cut.mp4"


@pytest.mark.parametrize("target_fps", [None, 12.5])
@pytest.mark.parametrize(
    "options",
    [{}, {"hop": 3}, {"timeline": TimelineOptions(hop_seconds=0.2, window_seconds=0.4), "features": True}],
    ids=["views", "hop", "timeline"],
)
def test_a_segment_is_predicted_as_a_video_cut_to_it(
    model: ActionNet, whole_and_cut: tuple[Path, Path], options: dict, target_fps: float | None
) -> None:
    model.clip = model.clip.replace(target_fps=target_fps)
    whole, cut = whole_and_cut
    of_segment = predict_file(whole, model, PredictOptions(**options), start_seconds=0.8, end_seconds=2.0)
    of_cut = predict_file(cut, model, PredictOptions(**options))
    assert (of_segment.requested_start_seconds, of_segment.requested_end_seconds) == (0.8, 2.0)
    assert (of_cut.requested_start_seconds, of_cut.requested_end_seconds) == (None, None)
    assert of_segment.duration_seconds == pytest.approx(2.8)
    for one, other in zip(of_segment.ranking, of_cut.ranking, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=2e-3)
    assert of_segment.start_seconds == pytest.approx(of_cut.start_seconds + 0.8)
    assert of_segment.end_seconds == pytest.approx(of_cut.end_seconds + 0.8)
    if of_cut.timeline is not None and of_segment.timeline is not None:
        np.testing.assert_allclose(of_segment.timeline.times, of_cut.timeline.times + 0.8)
        np.testing.assert_allclose(of_segment.feature_seconds, of_cut.feature_seconds + 0.8)


def test_what_lies_outside_of_the_video_is_refused(model: ActionNet, whole_and_cut: tuple[Path, Path]) -> None:
    message = r"no frame lies in the segment \[3, end\) s; the video's last frame is at 2.760 s"
    for timeline in (False, True):
        with pytest.raises(VideoError, match=message):
            predict(whole_and_cut[0], model, start_seconds=3, timeline=timeline, progress=False)
    for start, end in ((-1, None), (2, 2), (None, 0)):
        with pytest.raises(FarfieldError, match="the start must be at least 0, and the end later than the start"):
            predict(whole_and_cut[0], model, start_seconds=start, end_seconds=end, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_each_row_of_a_manifest_is_predicted_and_kept(
    checkpoint: Path,
    model: ActionNet,
    whole_and_cut: tuple[Path, Path],
    tmp_path: Path,
    run_farfield: Run,
    capsys: pytest.CaptureFixture[str],
    num_workers: int,
) -> None:
    whole, _ = whole_and_cut
    rows = [(None, None), (0.8, 2), (2, None), (9, 10)]
    lines = [f"whole.mp4,run,{'' if a is None else a},{'' if b is None else b}" for a, b in rows]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,start_seconds,end_seconds", *lines, lines[1]]) + "\n")
    command = ["predict", tmp_path / "m.csv", "--checkpoint", checkpoint, "--out", tmp_path / "out"]
    command += ["--timeline", "--write", "csv,srt,mp4,safetensors", "--num_workers", num_workers, "--device", "cpu"]
    assert run_farfield(*command) == 1
    said = capsys.readouterr()
    assert f"{whole} [0.8, 2) s  (0.80 s to 2.00 s)" in said.out
    assert f"{whole} [2, end) s  (2.00 s to 2.80 s)" in said.out
    assert f"farfield predict: {whole} [9, 10) s: no frame lies in the segment [9, 10) s" in said.err
    kept = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {(each["requested_start_seconds"], each["requested_end_seconds"]) for each in kept} == {*rows}
    assert len({each["name"] for each in kept}) == len(kept) == 4
    for each in kept:
        start, end = each["requested_start_seconds"], each["requested_end_seconds"]
        copy = tmp_path / f"out/{each['name']}_labelled.mp4"
        assert copy.exists() == (tmp_path / f"out/{each['name']}.srt").exists() == (each["error"] is None)
        if each["error"] is None:
            alone = predict(whole, model, start_seconds=start, end_seconds=end, timeline=True, progress=False)
            assert each["ranking"][0]["probability"] == pytest.approx(alone.ranking[0].probability, abs=1e-5)
            with open_video(copy) as shown:
                assert len(shown.times) == round(((end or 2.8) - (start or 0)) * FPS)
                assert shown.times[0] == 0
    table = list(csv.DictReader((tmp_path / "out/predictions.csv").open()))
    assert {row["requested_start_seconds"] for row in table} == {"", "0.8", "2.0", "9.0"}
    with safe_open(tmp_path / "out/features.safetensors", "np") as features:
        assert json.loads(features.metadata()["paths"]) == [str(whole)] * 3
        assert set(features.get_tensor("video")) == {0, 1, 2}

    (tmp_path / "out/whole.srt").rename(tmp_path / "moved.srt")
    before = {each["name"]: each for each in kept}
    assert run_farfield(*command) == 1  # predicts again what failed, and what lacks a file
    again = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {each["name"] for each in again} == before.keys()
    assert (tmp_path / "out/whole.srt").read_text() == (tmp_path / "moved.srt").read_text()


@pytest.mark.slow
def test_folders_of_pictures_have_the_frame_rate_of_their_rows(
    checkpoint: Path, make_video: Callable[..., Path], tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture
) -> None:
    write_pictures(tmp_path / "a", 20)
    write_pictures(tmp_path / "b", 20)
    shutil.copy(make_video(40), tmp_path / "c.mp4")
    rows = ["a,run,10,,", "b,run,,,", "c.mp4,run,99,,", "a,run,20,0.5,"]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,fps,start_seconds,end_seconds", *rows]) + "\n")
    command = ["predict", tmp_path / "m.csv", "--checkpoint", checkpoint, "--json"]
    assert run_farfield(*command) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [each["duration_seconds"] for each in found] == pytest.approx([2.0, None, 1.6, 1.0])
    assert f"farfield predict: {tmp_path / 'b'}: the frame rate of this folder of pictures is unknown" in said.err
    assert run_farfield(*command, "--fps", 5) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["duration_seconds"] for each in found] == pytest.approx([2.0, 4.0, 1.6, 1.0])


def test_a_folder_of_pictures_without_a_frame_rate_stops_no_other_video(
    checkpoint: Path, make_video: Callable[..., Path], tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture
) -> None:
    write_pictures(tmp_path / "a", 20)
    assert run_farfield("predict", tmp_path / "a", make_video(40), "--checkpoint", checkpoint, "--json") == 1
    said = capsys.readouterr()
    assert [each["error"] is None for each in json.loads(said.out)] == [False, True]
    assert "the frame rate of this folder of pictures is unknown; give it as fps" in said.err
