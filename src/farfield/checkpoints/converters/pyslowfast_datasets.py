"""Frame sampling and colour order of PySlowFast's data loaders, for each data set.

The config's TRAIN.DATASET names PySlowFast's Python class for the data set. Upper and lower case do not matter, since
`build_dataset` capitalises the name. Unless another package is named, the Python files named below are in
slowfast/datasets of the repository facebookresearch/SlowFast; "decoder.py at 163ad2e" is the file at the commit
163ad2e.

- Kinetics and Ptvkinetics decode videos to RGB frames (kinetics.py). Kinetics repeats the last frame of a video that is
  shorter than a clip (`temporal_sampling` in decoder.py at 163ad2e).
- Ssv2 (ssv2.py at 058922e) divides a video into NUM_FRAMES parts and takes one frame of each part, see
  `farfield.data.segment_sampling`. It ignores SAMPLING_RATE and TARGET_FPS. At test time, all NUM_ENSEMBLE_VIEWS clips
  of a video have the same frames. Its frames are BGR, since `retry_load_images` reads them with cv2.imdecode (utils.py
  at 0a7067b). Ptvssv2 takes the same frames as Ssv2 (pytorchvideo 0.1.5, data/ssv2.py), and converts them from RGB to
  BGR (rgb2bgr in ptv_datasets.py at 058922e).
- `pack_pathway_output` (utils.py at 0a7067b) reverses the channels if REVERSE_INPUT_CHANNEL is set. Networks trained on
  Kinetics then take BGR instead of RGB, and those trained on Ssv2 take RGB instead of BGR.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from farfield.checkpoints.converters.pyslowfast_config import number, setting, three_numbers
from farfield.checkpoints.converters.source_checkpoint import Shapes
from farfield.clip_spec import ShortClip, ViewsAggregation
from farfield.errors import FarfieldError

SEGMENT_FPS = 30.0
"""Frame rate of PySlowFast's published frame lists of Something-Something V2. The videos themselves have 12 fps."""
CHARADES_FPS = 24.0
"""Frame rate of the JPEG frames that Charades publishes, and that PySlowFast's frame lists contain."""
CHARADES_CLASSES = 157
AGGREGATIONS: dict[str, ViewsAggregation] = {"sum": "mean", "max": "max"}
"""`ClipSpec.views_aggregation` for PySlowFast's DATA.ENSEMBLE_METHOD. Sum and mean give the same ranking."""


class Loader(NamedTuple):
    """Frame sampling and colour order of a PySlowFast data loader.

    Attributes:
        segments: whether the loader takes one frame of each of NUM_FRAMES parts of the video, instead of frames at
            SAMPLING_RATE.
        bgr: whether the frames are BGR before REVERSE_INPUT_CHANNEL is applied.
        list_fps: frame rate of the extracted frames, for a loader that reads lists of image files. None for a loader
            that decodes videos; the frame rate is then TARGET_FPS.
        short_clip: treatment of videos that are shorter than a clip, as in `ClipSpec`.
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
    "ava": "such a network detects the actions of persons in boxes, and only networks that classify whole clips can be "
    "converted",
    "imagenet": "such a network classifies single images, and only networks that classify clips can be converted",
}
_PTV_CHARADES = (
    "PyTorchVideo's loader of Charades takes other test clips than PySlowFast's: the last of n clips starts at "
    "(n - 1) / n of the video, and videos shorter than a clip are slowed down. farfield takes clips as PySlowFast's "
    "loader does"
)
"""Note for the user. Source: pytorchvideo 0.1.5, data/charades.py and ConstantClipsPerVideoSampler in
data/clip_sampling.py.
"""
_FIRST_CROPS = (
    "with fewer than three crops, PySlowFast's Charades loader takes the left or upper crop first; farfield takes a "
    "single crop at the centre, and two crops at both ends"
)


def dataset_loader(cfg: dict[str, Any], path: Any, notes: list[str]) -> Loader:
    """Return the data loader for the data set in the config's TRAIN.DATASET.

    For a data set that PySlowFast does not have, return the loader of Kinetics and add a note.

    Args:
        cfg: PySlowFast's config.
        path: path of the checkpoint, for messages.
        notes: notes for the user; notes about assumptions are appended.

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
            f"PySlowFast has no data set {given!r} (TRAIN.DATASET), so the clips and colour channels of its Kinetics "
            "loader are assumed; --clip changes the clips"
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
    """Return Charades' class codes, c000 to c156, for a network with Charades' classes; None for other networks."""
    name = str(setting(cfg, "TRAIN.DATASET", "")).lower()
    if name not in ("charades", "ptvcharades") or shapes.get("head.fc.weight", (0,))[0] != CHARADES_CLASSES:
        return None
    return [f"c{number:03}" for number in range(CHARADES_CLASSES)]


def takes_bgr(cfg: dict[str, Any], loader: Loader) -> bool:
    """Return whether the network takes BGR frames: the loader's order, reversed if REVERSE_INPUT_CHANNEL is set."""
    return loader.bgr != bool(setting(cfg, "DATA.REVERSE_INPUT_CHANNEL", False))


def pyslowfast_clip(cfg: dict[str, Any], loader: Loader) -> dict[str, Any]:
    """Return the sampling, crops, normalisation and test views of a PySlowFast config, as fields of `ClipSpec`."""
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
