"""Frames reach a network as the video processors of `transformers` would prepare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farfield.checkpoints.checkpoint import load_network
from farfield.checkpoints.hugging_face_clip import preprocessing, sampling
from farfield.clip_spec import ClipSpec
from farfield.data.clips import video_views
from farfield.data.transforms import network_input
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.models.backbones.hugging_face import FAMILIES
from farfield.video.writer import write_video
from hugging_face import make_model, save

SMALL = {"crop_size": {"height": 48, "width": 48}, "size": {"shortest_edge": 53}}


def processor(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    pixels = {"image_mean": [0.4, 0.45, 0.5], "image_std": [0.2, 0.25, 0.3]}
    name = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit", "vjepa2": "VJEPA2"}[kind]
    return getattr(transformers, f"{name}VideoProcessor")(**SMALL, **pixels)


@pytest.mark.dependency
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(86, 114), (114, 86), (120, 214), (37, 41)])
def test_views_equal_what_the_processor_makes(kind: str, height: int, width: int, tmp_path: Path) -> None:
    """Sizes at which rounding the longer side or the offset matters, and one that a decoder would reduce."""
    folder = save(make_model(kind), tmp_path / "folder")
    theirs = processor(kind)
    theirs.save_pretrained(folder)
    spec = load_network(folder).clip
    assert (spec.short_side_px, spec.crop_px) == (theirs.size["shortest_edge"], 48)
    drawn = np.random.default_rng(3).integers(0, 256, (4, height // 2 + 1, width // 2 + 1, 3), dtype=np.uint8)
    frames = drawn.repeat(2, 1).repeat(2, 2)[:, : height // 2 * 2, : width // 2 * 2]
    write_video(tmp_path / "a.mp4", frames, fps=25)
    record = VideoRecord("a.mp4", "run")
    spec = spec.replace(frame_stride=1)
    view = video_views(tmp_path / "a.mp4", record, spec, num_clips=1, num_crops=1)
    ours = network_input(view.frames[None], spec)[0]
    decoded = _decode(tmp_path / "a.mp4")
    expected = theirs(torch.from_numpy(decoded).permute(0, 3, 1, 2), return_tensors="pt")
    expected = next(iter(expected.values()))[0].transpose(0, 1)
    assert expected.shape == ours.shape == (3, 4, 48, 48)
    assert float((ours - expected).abs().max()) < 1e-5


def _decode(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def settings(tmp_path: Path, kind: str = "videomae", name: str = "preprocessor_config.json", **content: Any) -> Any:
    (tmp_path / name).write_text(json.dumps(content))
    return preprocessing(tmp_path, kind, FAMILIES[kind].clip(16, 224))


def test_settings_of_every_form_are_read(tmp_path: Path) -> None:
    found, notes = settings(tmp_path, size=256, crop_size=224, image_mean=0.5, image_std=[0.1, 0.2, 0.3])
    assert found == {
        "mean": [0.5] * 3, "std": [0.1, 0.2, 0.3], "short_side_px": 256, "resize": "transformers",
    }  # fmt: skip
    assert notes == []
    found, _ = settings(tmp_path, do_normalize=False, rescale_factor=1 / 127.5, size={"shortest_edge": 100})
    assert (found["mean"], found["std"], found["short_side_px"]) == ([0.0] * 3, [0.5] * 3, 224)
    found, _ = settings(tmp_path, do_rescale=False, image_mean=127.5, image_std=51)
    assert found["mean"] + found["std"] == pytest.approx([0.5] * 3 + [0.2] * 3)
    found, notes = settings(tmp_path, do_normalize=False, image_mean=None, image_std=None, size=224)
    assert (found["mean"], found["std"], notes) == ([0.0] * 3, [1.0] * 3, [])
    nested = {"video_processor": {"image_mean": [0.1] * 3}}
    found, _ = settings(tmp_path, name="processor_config.json", **nested)
    assert found["mean"] == [0.1] * 3


def test_vivit_shifts_pixels_unless_its_settings_say_otherwise(tmp_path: Path) -> None:
    shifted, _ = settings(tmp_path, "vivit", rescale_factor=1 / 127.5, image_mean=0.5, image_std=0.5)
    assert shifted["mean"] + shifted["std"] == pytest.approx([0.75] * 3 + [0.25] * 3)
    plain, _ = settings(tmp_path, "vivit", rescale_factor=1 / 255, offset=False, image_mean=0.5, image_std=0.5)
    assert (plain["mean"], plain["std"]) == ([0.5] * 3, [0.5] * 3)


def test_what_differs_is_noted(tmp_path: Path) -> None:
    assert "resizes with resample 3, but farfield resizes bilinearly (2)" in settings(tmp_path, resample=3)[1][0]
    assert "does not resize the short side and crop" in settings(tmp_path, do_center_crop=False)[1][0]
    assert "does not resize the short side" in settings(tmp_path, size={"height": 224, "width": 224})[1][0]
    assert "crops to 112 px, but the encoder takes 224 px" in settings(tmp_path, crop_size=112)[1][0]
    assert "does not resize the short side" in settings(tmp_path, do_resize=None)[1][0]
    limited = {"shortest_edge": 256, "longest_edge": 300}
    assert "does not resize the short side" in settings(tmp_path, size=limited)[1][0]
    assert "pads to 224 px, but farfield resizes it to 224 px" in settings(tmp_path, size=200)[1][0]
    oblong = settings(tmp_path, crop_size={"height": 224, "width": 320})[1][0]
    assert "crops to {'height': 224, 'width': 320}, but farfield crops to 224 x 224 px" in oblong
    assert settings(tmp_path, image_std=0.5, size=224)[1] == [
        "preprocessor_config.json does not state image_mean: the publication's settings are used"
    ]
    (tmp_path / "preprocessor_config.json").unlink()
    found, notes = preprocessing(tmp_path, "timesformer", FAMILIES["timesformer"].clip(8, 224))
    assert found == {"resize": "transformers"}
    assert notes == ["there is no preprocessor_config.json: sizes and normalisation are those of the publication"]


@pytest.mark.parametrize(
    "content",
    [
        {"image_mean": "grey"},
        {"image_std": [0.2, 0.2]},
        {"image_std": 0},
        {"size": {"shortest_edge": -3}},
        {"crop_size": "large"},
        {"rescale_factor": None},
        {"image_mean": [1e999, 0, 0]},
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(FarfieldError, match=r"preprocessor_config\.json has invalid settings"):
        settings(tmp_path, **content)


def test_sampling_of_something_something_is_the_publications() -> None:
    labels = [f"Moving something {i}" for i in range(150)] + [f"Turning {i}" for i in range(24)]
    assert sampling("videomae", labels)["segment_offsets"] == "videomae"
    assert sampling("timesformer", labels)["target_fps"] == 30
    assert sampling("vjepa2", labels) == sampling("videomae", labels[:-1]) == {}
    for kind in ("videomae", "timesformer"):
        spec = FAMILIES[kind].clip(8, 224).replace(**sampling(kind, labels))
        assert (spec.sampling, spec.num_crops) == ("segments", 3)


@pytest.mark.parametrize(
    ("kind", "frames", "side", "stride", "views", "short_side"),
    [
        ("videomae", 16, 224, 4, (5, 3), 224),
        ("timesformer", 8, 224, 32, (1, 3), 224),
        ("timesformer", 16, 448, 16, (1, 3), 448),
        ("timesformer", 96, 224, 4, (1, 3), 224),
        ("vivit", 32, 224, 2, (4, 3), 256),
        ("vjepa2", 16, 256, 4, (2, 3), 292),
        ("vjepa2", 64, 384, 2, (2, 3), 438),
    ],
)
def test_clips_are_those_of_the_publications(
    kind: str, frames: int, side: int, stride: int, views: tuple[int, int], short_side: int
) -> None:
    spec: ClipSpec = FAMILIES[kind].clip(frames, side)
    assert (spec.num_frames, spec.crop_px, spec.frame_stride) == (frames, side, stride)
    assert ((spec.num_clips, spec.num_crops), spec.test_short_side_px) == (views, short_side)
