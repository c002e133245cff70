"""Functions that run in a worker process. No other part of the server decodes uploads.

A worker process loads the network once, when it starts. The functions take paths and return plain types. Their error
messages contain a file's display name, never its path on this machine.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.data.clips import views_of
from farfield.data.transforms import network_input
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import PredictOptions, predict_video
from farfield.inference.prediction_schema import Prediction
from farfield.interpretability.attention_maps import Position, attention_maps, draw_attention
from farfield.memory_errors import is_out_of_memory
from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet
from farfield.parallel import usable_cores
from farfield.scoring.load import InferenceModel, load_model
from farfield.server.display_names import UNNAMED
from farfield.server.limits import ServerSettings
from farfield.server.refusals import VIDEO_DELETED, Refused
from farfield.server.upload_check import open_upload
from farfield.timelines.options import TimelineOptions
from farfield.timelines.timeline import make_timeline
from farfield.video.decoders import Video
from farfield.video.error_reason import reason_of
from farfield.video.frame_rate import duration_seconds, frame_rate

_started: tuple[ServerSettings, InferenceModel] | None = None


def start(settings: ServerSettings) -> None:
    """Load the network into this process, and limit the memory that the process may allocate afterwards.

    The memory is limited only on Linux, and only if the network runs on the CPU.

    Raises:
        FarfieldError: if the network cannot be loaded.
    """
    global _started
    torch.set_num_threads(settings.threads or max(usable_cores() // settings.limits.num_workers, 1))
    model = load_model(settings.checkpoint, device=settings.device, precision=settings.precision)
    _started = settings, model
    if model.device.type == "cpu":
        _limit_memory(settings.limits.memory_bytes)


def _limit_memory(count: int) -> None:
    """On Linux, limit the memory of this process to `count` bytes more than it uses now."""
    if sys.platform != "linux":  # other systems do not enforce the limit, or lack the module
        return
    import resource

    # The data segment, not the address space: threads reserve many addresses that they never write to.
    status = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + count
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _loaded() -> tuple[ServerSettings, InferenceModel]:
    if _started is None:
        raise RuntimeError("call worker_tasks.start in this process first.")
    return _started


def describe() -> dict[str, Any]:
    """Describe the network.

    Returns:
        "network" (name of the backbone or checkpoint), "labels", "num_frames" (frames in a clip), "attends" (whether
        the network has attention maps to show) and "device".
    """
    settings, model = _loaded()
    config = getattr(model, "config", {})
    blocks = model.modules() if isinstance(model, ActionNet) else ()
    return {
        "network": str(config.get("backbone") or Path(settings.checkpoint).stem),
        "labels": list(model.labels),
        "num_frames": model.clip.num_frames,
        "attends": any(isinstance(each, WithBlock) and hasattr(each.inserted, "attention") for each in blocks),
        "device": str(model.device),
    }


def recognise(path: str, name: str, frames_file: str | None = None) -> dict[str, Any]:
    """Predict the most probable classes of an uploaded video, and its timeline if possible (see `_with_timeline`).

    Args:
        path: the uploaded file.
        name: display name of the file.
        frames_file: .npy file to which the frames for `draw_point_attention` are written, uint8 (t h w c); None to
            write no frames.

    Returns:
        The result of `Prediction.to_dict`, with the display name as "path". If `frames_file` is given, the result also
        has "frame_seconds", the time of each written frame.

    Raises:
        Refused: for a file that cannot be decoded or exceeds a limit.
    """
    settings, model = _loaded()
    options = PredictOptions(settings.top_k, settings.num_clips, settings.num_crops)
    with _refusals(path, name), open_upload(Path(path), name, settings, model.clip) as video:
        prediction = _with_timeline(predict_video(video, path, model, options), video, model, settings)
        result = replace(prediction, path=name).to_dict()
        if frames_file is not None:
            clip = views_of(video, Path(path), VideoRecord(path, ""), model.clip, num_clips=1, num_crops=1)
            np.save(frames_file, clip.frames[0].numpy())
            result["frame_seconds"] = clip.times_seconds[0].tolist()
    return result


def _with_timeline(prediction: Prediction, video: Video, model: InferenceModel, settings: ServerSettings) -> Prediction:
    """Add the segments of a timeline to a prediction, or a note that says why there is no timeline."""
    spec, window = model.clip, settings.window_seconds
    if window is None and spec.sampling == "segments":
        note = "This network samples frames from the whole video, so there is no timeline."
        return replace(prediction, note=note)
    length = window or spec.span / (spec.target_fps or frame_rate(video.times))
    hop = max(length / 2, duration_seconds(video.times) / settings.limits.timeline_windows)
    line = make_timeline(video, prediction.path, model, TimelineOptions(hop_seconds=hop, window_seconds=window))
    return replace(prediction, segments=line.segments, error=line.error)


def draw_point_attention(frames_file: str, position: Position, title: str = "") -> bytes:
    """Draw what a position attends to in each attention block that was inserted into the backbone; return a PNG image.

    Args:
        frames_file: file of frames that `recognise` wrote.
        position: (t, h, w) as fractions of the clip's length, height and width, each in [0, 1). Coordinates that are
            None are chosen for each block such that the entropy of the attention is lowest.
        title: title above the image.

    Raises:
        Refused: if the network is exported or has no blocks with attention maps, if the frames have been deleted, or if
            there is too little memory.
    """
    _, model = _loaded()
    if not isinstance(model, ActionNet):
        raise Refused("An exported network gives no attention maps. Serve its checkpoint instead.", "not_found")
    try:
        frames = np.load(frames_file, allow_pickle=False)
    except FileNotFoundError as error:
        raise Refused(VIDEO_DELETED, "not_found") from error
    with _refusals(frames_file, UNNAMED):
        clip = network_input(torch.from_numpy(frames)[None, None].to(model.device), model.clip).to(model.dtype)
        maps = attention_maps(model, clip, position=position)
        if not maps:
            raise Refused("This network has no blocks with attention over positions.", "not_found")
        buffer = io.BytesIO()
        draw_attention(frames, maps, columns=8, title=title).savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()


@contextmanager
def _refusals(path: str, name: str) -> Iterator[None]:
    """Raise errors caused by an upload as `Refused`, with the upload's display name in place of its path."""
    try:
        yield
    except Refused:
        raise
    except VideoError as error:
        raise Refused(f"{name}: {_without_path(error.reason, path, name)}", "undecodable") from None
    except FarfieldError as error:
        raise Refused(f"{name}: {_without_path(str(error), path, name)}", "undecodable") from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Refused(
            f"{name}: it needs more memory than the limit allows. Send a smaller video.", "too_large"
        ) from None


def _without_path(text: str, path: str, name: str) -> str:
    return reason_of(ValueError(text)).replace(path, name).replace(str(Path(path).parent), "")
