"""What the server runs, what a stranger's file may cost, and what is answered where it would cost more."""

from __future__ import annotations

from dataclasses import dataclass, fields

from farfield.errors import FarfieldError
from farfield.precision import Precision


@dataclass(frozen=True)
class Limits:
    """Bounds of the server; each is an option of `farfield serve`.

    Args:
        upload_bytes: size of a file.
        clip_seconds: length of a video.
        frame_pixels: width x height of a frame.
        frame_count: frames of a video: a second may hold thousands.
        num_workers: requests that are computed at once, each in a process of its own.
        max_waiting: requests that may wait for a process; one more is told to come back later.
        job_seconds: computing time of a request; its process is then ended and replaced.
        upload_seconds: time for a request's body to arrive.
        memory_bytes: what a process may take besides what it starts with; held on Linux only, and not on
            a GPU, whose driver reserves addresses without end.
        keep_seconds: how long the page keeps a clip, to play it and to answer clicks on its frames.
        kept_bytes: what the clips that are kept or arrive may take on the disk, all together.
        timeline_windows: windows of a timeline; a longer video has them farther apart.

    Raises:
        FarfieldError: for a bound that lets nothing through.
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
                f"kept_bytes is {self.kept_bytes} and upload_bytes {self.upload_bytes}: a file that may be sent "
                "must fit. Raise kept_bytes to upload_bytes or more."
            )


@dataclass(frozen=True)
class Setting:
    """How clips are recognised.

    Args:
        checkpoint: whatever `load_model` reads.
        limits: see there.
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: of `load_model`.
        threads: of PyTorch on the CPU, in each process; None for an equal share of the cores.
        top_k: classes in a ranking.
        num_clips: clips spread over a video; None for the network's own setting.
        num_crops: crops of each clip; None for the network's own setting.
        window_seconds: length of a timeline's window; None for the network's own.
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


class Refused(FarfieldError):
    """A request that gets no result, through no defect of the server.

    Attributes:
        reason: why, in one word for programs; a key of `STATUSES`.
        retry_seconds: when to come back; None where it is of no use.
    """

    def __init__(self, message: str, reason: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_seconds = retry_seconds

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str, int | None]]:
        return type(self), (str(self), self.reason, self.retry_seconds)

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        return STATUSES[self.reason]


NO_LONGER_KEPT = "The clip is no longer kept. Drop it again."

STATUSES = {
    "undecodable": 400,
    "malformed": 400,
    "forbidden": 403,
    "not_found": 404,
    "slow_upload": 408,
    "too_large": 413,
    "too_long": 413,
    "no_file": 422,
    "internal": 500,
    "busy": 503,
    "time_limit": 504,
}
"""Reasons to HTTP statuses."""


def as_size(count: float) -> str:
    """A number of bytes for people, as "200 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
