"""Limits of the server (upload size, video length, memory, time) and its other settings."""

from __future__ import annotations

from dataclasses import dataclass, fields

from farfield.errors import FarfieldError
from farfield.precision import Precision
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class Limits:
    """Limits of the server; each is an option of `farfield serve`.

    Args:
        upload_bytes: size of an uploaded file.
        clip_seconds: duration of a video.
        frame_pixels: width x height of a frame.
        frame_count: frames of a video; a high frame rate puts thousands into a second.
        num_workers: worker processes, each of which computes one request at a time.
        max_waiting: requests in the queue; further ones are refused as busy.
        job_seconds: computing time of a request; its worker process is then killed and replaced.
        upload_seconds: time for a request's body to arrive.
        memory_bytes: memory that a worker process may allocate after it has loaded the network. Enforced on Linux only,
            and not on a GPU, whose driver reserves very large address ranges.
        keep_seconds: how long the page keeps a video, for playback and for clicks on its frames.
        kept_bytes: disk space of all videos that are kept or being uploaded.
        timeline_windows: windows of a timeline; in a longer video they are further apart.

    Raises:
        FarfieldError: for a limit that is not positive, or a `kept_bytes` below `upload_bytes`.
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
                f"kept_bytes is {self.kept_bytes} and upload_bytes {self.upload_bytes}: the largest upload must fit. "
                "Raise kept_bytes to upload_bytes or more."
            )


@dataclass(frozen=True)
class ServerSettings:
    """Network and inference settings of a server.

    Args:
        checkpoint: a file or folder that `load_model` reads.
        limits: limits on what a request may cost.
        device: device to run on: auto, cpu, cuda, cuda:1.
        precision: precision, as for `load_model`.
        threads: PyTorch threads of each worker process; None for an equal share of the cores.
        top_k: number of classes in a ranking.
        num_clips: clips spread over each video; None for the network's own setting.
        num_crops: crops of each clip; None for the network's own setting.
        window_seconds: length of a timeline's window; None for the network's own.
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
    """Format a number of bytes for people, as "200 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
