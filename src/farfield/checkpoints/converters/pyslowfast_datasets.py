"""What the data loaders of PySlowFast do, by data set: how they choose frames, and the order of the colour channels.

Read in facebookresearch/SlowFast. TRAIN.DATASET is the name of a class, whose case does not matter since
`build_dataset` capitalises it (slowfast/datasets/build.py).

- Kinetics and Ptvkinetics decode videos to RGB frames (kinetics.py). Kinetics repeats the last frame of a video that is
  shorter than a clip (`temporal_sampling` in decoder.py at 163ad2e).
- Ssv2 (ssv2.py at 058922e) takes a frame of each of NUM_FRAMES parts, see `farfield.data.segment_sampling`. Neither
  SAMPLING_RATE nor TARGET_FPS has a part in it, and all NUM_ENSEMBLE_VIEWS clips of a test are equal. Its frames come
  from `retry_load_images`, thus from cv2.imdecode, which gives BGR (utils.py at 0a7067b). Ptvssv2 takes the same frames
  (pytorchvideo 0.1.5, data/ssv2.py) and turns RGB to BGR itself (ptv_datasets.py at 058922e, rgb2bgr).
- `pack_pathway_output` (utils.py at 0a7067b) reverses the channels if REVERSE_INPUT_CHANNEL is set, whatever their
  order. A network of Kinetics thus takes BGR with it, and one of Ssv2 takes RGB with it and BGR without.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from farfield.checkpoints.converters.pyslowfast_config import number, setting, three_numbers
from farfield.checkpoints.converters.source_checkpoint import Shapes
from farfield.clip_spec import ShortClip, ViewsAggregation
from farfield.errors import FarfieldError

SEGMENT_FPS = 30.0
"""Frames per second of PySlowFast's published lists of Something-Something V2, whose videos have 12."""
CHARADES_FPS = 24.0
"""Frames per second of Charades' own JPEG frames, which PySlowFast's lists name."""
CHARADES_CLASSES = 157
AGGREGATIONS: dict[str, ViewsAggregation] = {"sum": "mean", "max": "max"}
"""`ClipSpec.views_aggregation` for PySlowFast's DATA.ENSEMBLE_METHOD. Sum and mean order videos alike."""


class Loader(NamedTuple):
    """What a data loader does.

    Attributes:
        segments: whether it takes a frame of each part of the video, instead of frames at SAMPLING_RATE.
        bgr: whether its frames are BGR, before REVERSE_INPUT_CHANNEL.
        list_fps: frames per second of the lists of frames that it reads; None if it decodes videos at TARGET_FPS.
        short_clip: what it does with a video that is shorter than a clip, as in `ClipSpec`.
    """

    segments: bool = False
    bgr: bool = False
    list_fps: float | None = None
    short_clip: ShortClip = "loop"


LOADERS = {
    "kinetics": Loader(short_clip="clamp"),
    "ptvkinetics": Loader(),
    "ssv2": Loader(segments=True, bgr=True, list_fps=SEGMENT_FPS),
    "ptvssv2": Loader(segments=True, bgr=True, list_fps=SEGMENT_FPS),
    "charades": Loader(bgr=True, list_fps=CHARADES_FPS, short_clip="clamp"),
    "ptvcharades": Loader(bgr=True, list_fps=CHARADES_FPS, short_clip="clamp"),
}
REFUSED = {
    "ava": "it detects the actions of persons in boxes, and only networks that classify whole clips can be converted",
    "imagenet": "it classifies single images, and only networks that classify clips can be converted",
}
_PTV_CHARADES = (
    "PyTorchVideo's loader of Charades takes other test clips than PySlowFast's: the last of n clips starts at "
    "(n - 1) / n of the way, and videos shorter than a clip are slowed down. Here, clips are as in PySlowFast's loader"
)
"""Difference of pytorchvideo 0.1.5's data/charades.py and data/clip_sampling.py (ConstantClipsPerVideoSampler)."""
_FIRST_CROPS = (
    "with fewer than three crops, PySlowFast's Charades takes the left or upper one first; here, one crop is central "
    "and two are at both ends"
)


def dataset_loader(cfg: dict[str, Any], path: Any, notes: list[str]) -> Loader:
    """Return what the loader of the config's TRAIN.DATASET does.

    A data set that PySlowFast does not have is taken to be read as Kinetics is, and a note says so.

    Args:
        cfg: PySlowFast's config.
        path: path of the checkpoint, for messages.
        notes: notes for the user, to which one may be added.

    Raises:
        FarfieldError: for a data set whose networks cannot be converted.
    """
    given = setting(cfg, "TRAIN.DATASET", "kinetics")  # PySlowFast's default
    name = str(given).lower()
    if name in REFUSED:
        raise FarfieldError(
            f"{path} cannot be converted: its config sets TRAIN.DATASET to {given}; {REFUSED[name]}. Data sets whose "
            f"networks can be converted: {', '.join(LOADERS)}."
        )
    if name not in LOADERS:
        notes.append(
            f"PySlowFast has no data set {given!r} (TRAIN.DATASET): clips and colour channels are taken to be those of "
            "its Kinetics loader; --clip changes the clips"
        )
        return LOADERS["kinetics"]
    loader = LOADERS[name]
    if loader.list_fps is not None:
        lists = "PySlowFast's lists of Something-Something" if loader.segments else "the JPEG frames of Charades"
        notes.append(
            f"clips of {loader.list_fps:g} frames per second are assumed, as in {lists}; "
            "for a network that was trained on the videos' own frames: --clip '{target_fps: null}'"
        )
    if name == "ptvcharades":
        notes.append(_PTV_CHARADES)
    if "charades" in name and setting(cfg, "TEST.NUM_SPATIAL_CROPS", 3) in (1, 2):
        notes.append(_FIRST_CROPS)
    return loader


def dataset_labels(cfg: dict[str, Any], shapes: Shapes) -> list[str] | None:
    """Return Charades' class codes, c000 to c156, for a network of its classes; None for another network."""
    name = str(setting(cfg, "TRAIN.DATASET", "")).lower()
    if name not in ("charades", "ptvcharades") or shapes.get("head.fc.weight", (0,))[0] != CHARADES_CLASSES:
        return None
    return [f"c{number:03}" for number in range(CHARADES_CLASSES)]


def takes_bgr(cfg: dict[str, Any], loader: Loader) -> bool:
    """Return whether the network takes BGR frames: the loader's order, reversed by REVERSE_INPUT_CHANNEL."""
    return loader.bgr != bool(setting(cfg, "DATA.REVERSE_INPUT_CHANNEL", False))


def pyslowfast_clip(cfg: dict[str, Any], loader: Loader) -> dict[str, Any]:
    """Return a config's sampling, crops, normalisation and views, as values of a `ClipSpec`."""
    test_crop = number(cfg, "DATA.TEST_CROP_SIZE", 256)
    clip = {
        "num_frames": number(cfg, "DATA.NUM_FRAMES", 8),
        "frame_stride": number(cfg, "DATA.SAMPLING_RATE", 8),
        "target_fps": number(cfg, "DATA.TARGET_FPS", 30, float),
        "crop_px": number(cfg, "DATA.TRAIN_CROP_SIZE", 224),
        "test_crop_px": test_crop,
        "short_side_px": test_crop,
        "mean": three_numbers(cfg, "DATA.MEAN", 0.45),
        "std": three_numbers(cfg, "DATA.STD", 0.225),
        "num_clips": number(cfg, "TEST.NUM_ENSEMBLE_VIEWS", 10),
        "num_crops": number(cfg, "TEST.NUM_SPATIAL_CROPS", 3),
        "short_clip": loader.short_clip,
        "views_aggregation": _views_aggregation(cfg),
    }
    if loader.list_fps is not None:
        clip["target_fps"] = loader.list_fps
    if loader.segments:
        clip |= {"sampling": "segments", "segment_offsets": "pyslowfast", "num_clips": 1}
    return clip


def _views_aggregation(cfg: dict[str, Any]) -> ViewsAggregation:
    method = setting(cfg, "DATA.ENSEMBLE_METHOD", "sum")
    if not isinstance(method, str) or method not in AGGREGATIONS:
        raise FarfieldError(
            f"the config inside the checkpoint has DATA.ENSEMBLE_METHOD {method!r}. Values that can be converted: "
            f"{', '.join(AGGREGATIONS)}."
        )
    return AGGREGATIONS[method]
