"""What runs in a process of its own: the only place of the server that opens a stranger's file.

A process loads the network once, when it starts. Its functions take paths and give plain types back. The message of
what they raise names a file as its sender did, never by its place on this machine.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.clip_spec import ClipSpec
from farfield.data.clips import video_views
from farfield.data.manifest import VideoRecord
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import predict
from farfield.inference.timeline import timeline
from farfield.interpretability.attention_maps import Position, attention_maps, draw_attention
from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet
from farfield.parallel import usable_cores
from farfield.scoring.load import InferenceModel, load_model
from farfield.server.limits import NO_LONGER_KEPT, Limits, Refused, Setting
from farfield.video.container import open_container, video_stream
from farfield.video.decoders import open_video
from farfield.video.error_reason import reason_of
from farfield.video.frame_rate import frame_rate

_started: tuple[Setting, InferenceModel] | None = None  # of this process


def start(setting: Setting) -> None:
    """Loads the network into this process, and bounds what it may take from then on.

    Raises:
        FarfieldError: where the network cannot be loaded.
    """
    global _started
    torch.set_num_threads(setting.threads or max(usable_cores() // setting.limits.num_workers, 1))
    model = load_model(setting.checkpoint, device=setting.device, precision=setting.precision)
    _started = setting, model
    if model.device.type == "cpu":
        _bound_memory(setting.limits.memory_bytes)


def _bound_memory(count: int) -> None:
    """Lets this process take `count` bytes more than it has. What needs more fails, instead of the machine."""
    if sys.platform != "linux":  # elsewhere the system does not hold such a bound, or has no module for it
        return
    import resource

    # Data, not addresses: threads reserve many of these that they never write to.
    status = Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = taken + count
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _model() -> tuple[Setting, InferenceModel]:
    if _started is None:
        raise RuntimeError("start has not run in this process.")
    return _started


def describe() -> dict[str, Any]:
    """What the network is: its name, labels and frames, and whether clicks on a frame have an answer."""
    _, model = _model()
    config = getattr(model, "config", {})
    blocks = model.modules() if isinstance(model, ActionNet) else ()
    return {
        "network": str(config.get("backbone") or Path(_model()[0].checkpoint).stem),
        "labels": list(model.labels),
        "num_frames": model.clip.num_frames,
        "attends": any(isinstance(each, WithBlock) and hasattr(each.inserted, "attention") for each in blocks),
        "device": str(model.device),
    }


def recognise(path: str, name: str, kept: str | None = None) -> dict[str, Any]:
    """The ranking and the timeline of a file.

    Args:
        path: the file.
        name: what its sender calls it.
        kept: where to leave the frames that `attend` shows, an .npy file of uint8 (t h w c); None for nowhere.

    Returns:
        For JSON: file, network, duration_seconds, ranking, start_seconds, end_seconds; timeline, a list of segments or
        None for a network that has none, and timeline_note, why it has none or ends early, or None. With `kept`,
        frame_seconds, too: when each frame is shown.

    Raises:
        Refused: for a file that cannot be decoded, or is beyond a limit.
    """
    setting, model = _model()
    with _named(path, name):
        duration = _measure(Path(path), name, setting.limits)
        prediction = predict(path, model, top_k=setting.top_k, num_clips=setting.num_clips, num_crops=setting.num_crops)
        segments, note = _timeline(path, model, setting, duration)
        found = {
            "file": name,
            "network": describe()["network"],
            "duration_seconds": round(duration, 3),
            "ranking": [asdict(ranked) for ranked in prediction.ranking],
            "start_seconds": prediction.start_seconds,
            "end_seconds": prediction.end_seconds,
            "timeline": segments,
            "timeline_note": note,
        }
        if kept is not None:
            clip = video_views(Path(path), VideoRecord(path, ""), model.clip, num_clips=1, num_crops=1)
            np.save(kept, clip.frames[0].numpy())
            found["frame_seconds"] = clip.times_seconds[0].tolist()
    return found


def _measure(path: Path, name: str, limits: Limits) -> float:
    """The video's length in seconds, once it is known to be within limits. No frame is decoded for it."""
    _refuse_text(path)
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            width, height = (stream.codec_context.width, stream.codec_context.height) if stream else (0, 0)
    except Exception:  # of many types; open_video tries again, and says what is wrong
        width = height = 0
    if width * height > limits.frame_pixels:
        raise Refused(
            f"{name}: its frames are {width} x {height}; at most {limits.frame_pixels / 1e6:.3g} million pixels are "
            "taken. Send it smaller.",
            "too_large",
        )
    with open_video(path) as video:
        times = video.times
    if len(times) > limits.frame_count:
        raise Refused(f"{name}: it has {len(times)} frames; at most {limits.frame_count} are taken.", "too_long")
    seconds = float(times[-1] - times[0]) * (len(times) / max(len(times) - 1, 1))  # the last is shown as long as others
    if seconds > limits.clip_seconds:
        raise Refused(
            f"{name}: it is {seconds:.0f} s long; at most {limits.clip_seconds:g} s are taken. Cut it.", "too_long"
        )
    return seconds


def _refuse_text(path: Path) -> None:
    """Before FFmpeg sees it: some texts are lists of other files, which it would open before `open_container` refuses.

    Every format of videos has control characters in its first bytes, for sizes and counts.
    """
    with path.open("rb") as file:
        head = file.read(64)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text and (text.startswith(_LISTS) or not any(byte < 32 and byte not in b"\t\n\r\f" for byte in text)):
        raise VideoError(path, "it is text, not a video")


_LISTS = (b"#EXTM3U", b"ffconcat")


def _timeline(
    path: str, model: InferenceModel, setting: Setting, duration: float
) -> tuple[list[dict[str, Any]] | None, str | None]:
    spec: ClipSpec = model.clip
    window = setting.window_seconds
    if window is None and spec.sampling == "segments":
        return None, "This network looks at a video as a whole: it has no timeline."
    hop = max((window or _own_window(path, spec)) / 2, duration / setting.limits.timeline_windows)
    found = timeline(path, model, hop_seconds=hop, window_seconds=window)
    return [asdict(segment) for segment in found.segments], found.error


def _own_window(path: str, spec: ClipSpec) -> float:
    if spec.target_fps is not None:
        return spec.span / spec.target_fps
    with open_video(path) as video:
        return spec.span / frame_rate(video.times)


def attend(kept: str, position: Position, title: str = "") -> bytes:
    """What a position attends to in each inserted block, as a PNG picture.

    Args:
        kept: where `recognise` left the frames.
        position: (t, h, w) of the clip in [0, 1); None along an axis where it is to be chosen.
        title: above the picture.

    Raises:
        Refused: for a network without such blocks, frames that are gone, or more memory than is allowed.
    """
    _, model = _model()
    if not isinstance(model, ActionNet):
        raise Refused("An exported network shows no attention. Serve its checkpoint instead.", "not_found")
    try:
        frames = np.load(kept, allow_pickle=False)
    except FileNotFoundError as error:
        raise Refused(NO_LONGER_KEPT, "not_found") from error
    with _named(kept, "the clip"):
        clip = network_input(torch.from_numpy(frames)[None, None].to(model.device), model.clip).to(model.dtype)
        maps = attention_maps(model, clip, position=position)
        if not maps:
            raise Refused("This network has no blocks with attention over positions.", "not_found")
        buffer = io.BytesIO()
        draw_attention(frames, maps, columns=8, title=title).savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()


@contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Turns what a file is to blame for into `Refused`."""
    try:
        yield
    except Refused:
        raise
    except VideoError as error:
        raise Refused(f"{name}: {_without(error.reason, path, name)}", "undecodable") from None
    except (MemoryError, torch.OutOfMemoryError):
        raise Refused(f"{name}: it needs more memory than is allowed.", "too_large") from None
    except FarfieldError as error:
        raise Refused(f"{name}: {_without(str(error), path, name)}", "undecodable") from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # PyTorch has no type of its own for it
            raise
        raise Refused(f"{name}: it needs more memory than is allowed.", "too_large") from None


def _without(text: str, path: str, name: str) -> str:
    return reason_of(ValueError(text)).replace(path, name).replace(str(Path(path).parent), "")
