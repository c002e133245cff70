"""Windows that share work have the scores of windows that are computed one by one."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from farfield import build_model
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.inference.predict import PredictOptions, predict_file
from farfield.layers import recalibrate
from farfield.models.frame_levels import FrameLevel, frame_levels
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.scoring.score_views import score_views
from farfield.timelines.options import TimelineOptions
from farfield.timelines.shared_frames import SharedFrames, share_frames
from farfield.timelines.sliding_windows import sliding_windows
from farfield.timelines.timeline import make_timeline
from farfield.timelines.window_scores import score_windows
from farfield.video.decoders import open_video
from farfield.video.writer import write_video

NUM_FRAMES, STRIDE = 8, 2
SPAN = (NUM_FRAMES - 1) * STRIDE + 1


def write_noise(path: Path, num_frames: int, seconds: list[float] | None = None) -> Path:
    """Write a video at 25 frames per second, each of whose frames has its own random patches of colour."""
    patches = np.random.default_rng(7).integers(0, 256, (num_frames, 6, 8, 3), dtype=np.uint8)
    frames = (each.repeat(8, axis=0).repeat(8, axis=1) for each in patches)
    write_video(path, frames, fps=25, seconds=seconds, crf=10)
    return path


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """46 frames: windows that start 4 frames apart share frames, except for the last, which starts at frame 31."""
    return write_noise(tmp_path_factory.mktemp("noise") / "noise.mp4", 46)


@cache
def network(backbone: str, insert: str | None = None, **clip: Any) -> ActionNet:
    """Return a narrow network whose features have the spread of a trained one's, and whose blocks have effects.

    Tests share it, and must not change it.
    """
    torch.manual_seed(0)
    options = {"width": 8} if backbone.split("_")[0] in ("slow", "c2d", "i3d", "slowfast") else {}
    given = {"num_frames": NUM_FRAMES, "frame_stride": STRIDE, "crop_px": 40, "short_side_px": 44} | clip
    made = build_model(backbone, num_classes=5, clip=given, insert=insert, backbone_options=options)
    for parameter in made.parameters():
        if parameter.ndim == 1:  # a norm of weight 0 would hide a residual branch or an inserted block
            torch.nn.init.uniform_(parameter, 0.5, 1)
    pixels = torch.randint(256, (4, 1, NUM_FRAMES, 40, 40, 3), dtype=torch.uint8)
    recalibrate(made, [network_input(pixels, made.clip)])
    torch.nn.init.normal_(made.head.fc.weight, std=0.3)
    return made.eval()


def logits(path: Path, model: ActionNet, *, batch: int = 4, sharing: bool = True, **options: Any) -> Tensor:
    """Return the logits of a video's windows, with its features beside them."""
    found = []
    with sliding_windows(path, model.clip, **options) as windows:
        shared = share_frames(windows, model, batch)
        every = list(windows)
        for i in range(0, len(every), batch):
            part = every[i : i + batch]
            if sharing and shared is not None:
                scores = shared.score(part, features=True)
            else:
                scores = score_views(model, torch.cat([each.frames for each in part]), batch_size=batch, features=True)
            assert scores.features is not None
            found.append(torch.cat([scores.logits, scores.features], dim=1))
    return torch.cat(found).cpu()


def assert_same(path: Path, model: ActionNet, *, tolerance: float = 1e-5, **options: Any) -> None:
    expected = logits(path, model, sharing=False, **options)
    assert expected.std(0).mean() > 0.01  # windows differ
    found = logits(path, model, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1, float(expected.abs().max())))


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Count the maps that each level computes, by frames a map."""
    counts = {1: 0, 2: 0}
    compute = FrameLevel.__call__

    def count(self: FrameLevel, x: Tensor) -> Tensor:
        counts[self.span] += x.shape[2] // self.group
        return compute(self, x)

    monkeypatch.setattr(FrameLevel, "__call__", count)
    return counts


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize(
    ("backbone", "insert", "pairs"),
    [
        ("slow_r50", None, 0),
        ("slow_r50", "nl5", 0),
        ("c2d_r50", None, 15),
        ("c2d_r50", "nl5", 15),
        ("tiny_c2d", None, 0),
    ],
)
def test_frames_are_computed_once(
    backbone: str,
    insert: str | None,
    pairs: int,
    folded: bool,
    noise: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine windows, of 72 frames and 36 pairs of frames: 22 and 11 for eight of them, and 8 and 4 for the last."""
    model = network(backbone, insert)
    if folded:
        model = optimize_for_inference(model)
    assert frame_levels(model) is not None
    counts = counted(monkeypatch)
    assert_same(noise, model, hop_frames=4)
    assert counts == {1: 30, 2: pairs}


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("backbone", ["i3d_r50", "slowfast_r50", "x3d_xs", "tiny"])
def test_networks_that_look_at_several_frames_at_first_share_nothing(backbone: str, folded: bool, noise: Path) -> None:
    model = network(backbone)
    if folded:
        model = optimize_for_inference(model)
    assert frame_levels(model) is None
    with sliding_windows(noise, model.clip, hop_frames=4) as windows:
        assert share_frames(windows, model, 4) is None


def test_frames_off_the_grid_are_computed_anew(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows an odd number of sampled frames apart share frames, but only every other one shares pairs of frames."""
    model = network("c2d_r50")
    frame_levels(model)
    counts = counted(monkeypatch)
    assert_same(noise, model, hop_frames=2)
    assert counts == {1: 23 + 8, 2: 11 + 11 + 4}
    counts.update({1: 0, 2: 0})
    assert_same(noise, model, hop_frames=SPAN)
    assert counts == {1: 0, 2: 0}  # no window shares a frame with another
    assert_same(noise, model, hop_frames=3, window_seconds=1.1)  # 8 frames spread over 28, some in several windows


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_crops_and_batches(batch: int, noise: Path) -> None:
    for backbone in ("slow_r50", "c2d_r50"):
        assert_same(noise, network(backbone), batch=batch, hop_frames=4, num_crops=3)


@pytest.mark.slow
@pytest.mark.parametrize("target_fps", [None, 15.0, 50.0])
def test_videos_of_a_variable_rate(target_fps: float | None, tmp_path: Path) -> None:
    """At 50 frames per second, a window holds some frames twice."""
    steps = np.random.default_rng(3).choice([0.02, 0.04, 0.1], 70)
    path = write_noise(tmp_path / "variable.mp4", 70, seconds=np.cumsum(steps).tolist())
    for backbone in ("slow_r50", "c2d_r50"):
        model = network(backbone, target_fps=target_fps)
        assert_same(path, model, hop_frames=4)
        assert_same(path, model, hop_frames=5)


@pytest.mark.slow
def test_rounded_numbers_stay_as_close_as_they_are(noise: Path) -> None:
    for backbone in ("slow_r50", "c2d_r50"):
        model = optimize_for_inference(network(backbone), torch.bfloat16)
        assert frame_levels(model) is not None
        assert_same(noise, model, hop_frames=4, tolerance=0.02)


def test_a_timeline_is_the_same(noise: Path) -> None:
    model = network("c2d_r50")
    options = TimelineOptions(hop_seconds=4 / 25)
    with open_video(noise) as video:
        shared, plain = (
            make_timeline(video, noise, model, options, num_crops=2, features=True, sharing=sharing)
            for sharing in (True, False)
        )
    np.testing.assert_allclose(shared.probabilities, plain.probabilities, atol=1e-5, rtol=0)
    assert shared.features is not None
    assert plain.features is not None
    np.testing.assert_allclose(shared.features, plain.features, atol=1e-4, rtol=0)
    assert not np.array_equal(shared.probabilities[0], shared.probabilities[-1])


def test_predictions_share_by_default(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("slow_r50")
    frame_levels(model)
    counts = counted(monkeypatch)
    predict_file(noise, model, PredictOptions(timeline=TimelineOptions(hop_seconds=4 / 25)))
    assert counts[1] == 30
    predict_file(noise, model, PredictOptions(hop=4, num_crops=1))
    assert counts[1] == 60


def test_a_video_that_breaks_off_keeps_what_came_before(noise: Path, tmp_path: Path) -> None:
    whole = noise.read_bytes()
    frames = whole.index(b"mdat")
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: frames + (len(whole) - frames) * 3 // 4])
    model = network("c2d_r50")
    options = TimelineOptions(hop_seconds=4 / 25)
    with open_video(path) as video:
        shared, plain = (make_timeline(video, path, model, options, sharing=sharing) for sharing in (True, False))
    assert shared.error == plain.error is not None
    assert 1 < len(shared.windows) < 9
    np.testing.assert_allclose(shared.probabilities, plain.probabilities, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_only_what_later_windows_need_is_held(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "long.mp4", 200)
    model = network("slow_r50")
    with sliding_windows(path, model.clip, hop_frames=4) as windows:
        shared = share_frames(windows, model, 4)
        assert shared is not None
        for i, window in enumerate(windows):
            shared.score([window])
            is_last = i == len(windows) - 1  # on other frames
            assert len(shared._held[0].rows) <= (2 if is_last else 1) * NUM_FRAMES


def test_scores_that_are_no_numbers_are_refused(noise: Path) -> None:
    model = deepcopy(network("slow_r50"))
    torch.nn.init.constant_(model.head.fc.bias, torch.nan)
    with sliding_windows(noise, model.clip, hop_frames=4) as windows:
        assert isinstance(share_frames(windows, model, 4), SharedFrames)
        with pytest.raises(FarfieldError, match="the network returned NaN scores"):
            list(score_windows(windows, model))
