"""Settings of the server: its network, inference settings and limits (upload size, video length, memory, time)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from farfield.errors import FarfieldError
from farfield.precision import Precision
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class Limits:
    """Limits of the server; each is an option of `farfield serve`.

    Args:
        upload_bytes: maximum size of an uploaded file.
        clip_seconds: maximum duration of a video.
        frame_pixels: maximum width x height of a frame.
        frame_count: maximum number of frames of a video. This also limits short videos with a very high frame rate.
        num_workers: number of worker processes, each of which computes one request at a time.
        max_waiting: maximum number of requests in the queue. Further requests are refused as busy.
        job_seconds: maximum computing time of a request. The worker process of a slower request is killed and replaced.
        upload_seconds: maximum time for a request's body to arrive.
        memory_bytes: memory that a worker process may allocate after it has loaded the network. Enforced on Linux only,
            and only if the network runs on the CPU: a GPU driver reserves very large address ranges.
        keep_seconds: time for which the page's videos are kept, for playback and for clicks on their frames.
        kept_bytes: maximum disk space of all videos that are kept or being uploaded.
        timeline_windows: approximate maximum number of windows in a timeline. To stay below it, windows of long videos
            are further apart.

    Raises:
        FarfieldError: for a limit that is not positive (max_waiting may be 0), or a `kept_bytes` below `upload_bytes`.
    """

    upload_bytes: int = 200 * 2**20
    clip_seconds: float = 300.0
    frame_pixels: int = 4096 * 2304
    frame_count: int = 36_000
    num_workers: int = 2
    max_waiting: int = 8
    job_seconds: float = 120.0
    upload_seconds: float = 120.0
    memory_bytes: int = 4 * 2**30
    keep_seconds: float = 900.0
    kept_bytes: int = 2 * 2**30
    timeline_windows: int = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "max_waiting":
                if value < 0:
                    raise FarfieldError(f"max_waiting is {value}; it must be 0 or more.")
            elif not value > 0:
                raise FarfieldError(f"{field.name} is {value}; it must be positive.")
        if self.kept_bytes < self.upload_bytes:
            raise FarfieldError(
                f"kept_bytes is {self.kept_bytes}, less than the size of the largest permitted upload (upload_bytes, "
                f"{self.upload_bytes}). Set kept_bytes to at least upload_bytes."
            )


@dataclass(frozen=True)
class ServerSettings:
    """Network and inference settings of a server.

    Args:
        checkpoint: file or folder that `load_model` reads.
        limits: limits on the size, time and memory of requests.
        device: device to run on, such as "auto", "cpu", "cuda" or "cuda:1".
        precision: number format of the network, see `load_model`.
        threads: PyTorch threads of each worker process; None for an equal share of the cores.
        top_k: number of classes in a ranking.
        num_clips: clips spread over each video; None for the network's own setting.
        num_crops: crops of each clip; None for the network's own setting.
        window_seconds: length of a timeline's windows; None for the network's own window length.
        decoder: decoder of uploads, see `open_video`.
    """

    checkpoint: str
    limits: Limits
    device: str = "auto"
    precision: Precision = "float32"
    threads: int | None = None
    top_k: int = 5
    num_clips: int | None = None
    num_crops: int | None = None
    window_seconds: float | None = None
    decoder: Decoder = "pyav"


def format_bytes(count: float) -> str:
    """Format a number of bytes with a unit, for example "200 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
