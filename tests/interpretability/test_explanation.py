from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farfield import build_model
from farfield.interpretability import explanation_files
from farfield.interpretability.block_activations import grid_middles
from farfield.interpretability.explanation import explain_video
from farfield.interpretability.explanation_files import write_explanation
from farfield.interpretability.explanation_json import to_json
from interpretability.test_attention_maps import two_pathways


@pytest.mark.slow
def test_each_of_two_pathways_is_explained(make_video: Callable[..., Path], tmp_path: Path) -> None:
    made = two_pathways(res4=[0])
    found = explain_video(make_video(60), made, num_clips=1, num_crops=1)
    assert [cam.stage for cam in found.cams] == ["res5", "fast_res5"]
    assert "Grad-CAM is computed separately for the features of each of the two pathways." in found.notes
    assert [block.shown.block for block in found.blocks] == ["res4[0]"]
    content = write_explanation(found, tmp_path)
    assert {"grad_cam.mp4", "grad_cam_fast_res5.mp4", "attention_res4-0.mp4", "evidence.png"} <= set(content["files"])
    slow_seconds = {found.seconds[i] for i in (0, 5, 10, 15)}
    for place in (content["blocks"][0]["query"], *content["blocks"][0]["connections"]):
        assert min(abs(place["t_seconds"] - at) for at in slow_seconds) < 1e-3


def test_a_network_without_maps_has_notes(make_video: Callable[..., Path]) -> None:
    made = build_model("swin3d_t", num_classes=3, clip={"num_frames": 4, "crop_px": 32})
    found = explain_video(make_video(60), made, num_clips=2, num_crops=1)
    assert (found.blocks, found.cams) == ([], [])
    assert found.notes == [
        "this network has no inserted blocks, so there is no attention to show.",
        "no Grad-CAM: the network has no features over time and space before its classifier.",
        "no evidence over time: the network outputs one vector for the whole clip, not features over time.",
    ]
    content = to_json(found)
    assert (content["evidence"], content["grad_cam"]) == (None, [])
    assert [w["contribution"] for w in content["windows"]] != [None, None]


def test_the_view_with_the_highest_probability_is_chosen(make_video: Callable[..., Path]) -> None:
    made = build_model("tiny", num_classes=3, clip={"num_frames": 4, "crop_px": 32})
    for index, label in enumerate(made.labels):
        found = explain_video(make_video(60), made, label=label, num_clips=5, num_crops=3)
        assert len(found.views.probabilities) == 15
        of_class = found.views.probabilities[:, index].tolist()
        assert found.explained == of_class.index(max(of_class))
        assert found.label == label
    late = explain_video(make_video(60), made, time=2.2, num_clips=5, num_crops=3)
    assert late.explained // 3 == 4
    assert abs(late.seconds - 2.2).min() == pytest.approx(abs(late.views.seconds - 2.2).min())


@pytest.mark.slow
def test_a_block_at_initialisation_is_said_to_have_no_effect(make_video: Callable[..., Path], tmp_path: Path) -> None:
    made = build_model("tiny", num_classes=3, insert={"res4": [0]}, clip={"num_frames": 4, "crop_px": 32})
    block = next(module for module in made.modules() if type(module).__name__.startswith("NonLocal"))
    with torch.no_grad():
        for name, weight in block.named_parameters():
            if name.startswith(("theta", "phi")):
                weight.zero_()  # all affinities are equal
    found = explain_video(make_video(60), made, num_clips=1, num_crops=1)
    assert "res4[0] returns its input unchanged, as at initialisation: its attention has no effect." in found.notes
    uniform = "res4[0]: the attention is uniform (entropy above 99.9% of the largest), so no arrows are drawn."
    assert uniform in found.notes
    drawn = []
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        draw = explanation_files.draw_connections
        patch.setattr(explanation_files, "draw_connections", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
        write_explanation(found, tmp_path)
    [axes] = drawn[0].axes
    assert "this block returns its input unchanged" in axes.texts[-1].get_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_other_precisions_are_explained(dtype: torch.dtype, make_video: Callable[..., Path]) -> None:
    made = build_model("tiny", num_classes=3, insert={"res3": [0]}, clip={"num_frames": 4, "crop_px": 32})
    found = explain_video(make_video(60), made.to(dtype), num_clips=1, num_crops=1)
    assert len(found.cams) == len(found.blocks) == 1
    assert found.evidence is not None


@pytest.mark.parametrize(("name", "frames", "middles"), [("c2d_r50", 7, [1, 3, 5]), ("i3d_r50", 9, [1, 3, 5, 7])])
def test_time_steps_do_not_cover_frames_that_the_pooling_drops(name: str, frames: int, middles: list[int]) -> None:
    """C2D and I3D pool pairs of frames after res2; an odd last frame is in no pair."""
    with torch.device("meta"):
        made = build_model(name, num_classes=3, clip={"num_frames": frames})
    for stage in ("res3", "res5", "top"):
        found = grid_middles(made.backbone, stage, frames, (len(middles), 7, 7))[0]
        assert (found * frames).tolist() == pytest.approx(middles)
    of_frames = grid_middles(made.backbone, "res2", frames, (frames, 7, 7))[0]
    assert (of_frames * frames).tolist() == pytest.approx([i + 0.5 for i in range(frames)])
