"""Score the test views of a video, and choose the view to explain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.clip_spec import ViewsAggregation
from farfield.data.clips import video_views
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.scoring.aggregation import aggregate_views, view_probabilities
from farfield.scoring.score_views import score_views
from farfield.video.decoder_names import Decoder

VIEW_BATCH = 4
"""Number of views per batch; bounds memory."""


@dataclass(frozen=True)
class ScoredViews:
    """The views of one video and their scores.

    Attributes:
        frames: RGB frames of each view. There are v = clips x crops views, in this order: all crops of the first clip,
            then all crops of the second, ...
        seconds: time of each frame of each view.
        probabilities: class probabilities of each view.
        num_crops: number of crops of each clip.
        aggregation: "mean" or "max": how the probabilities of several views are combined into one.
    """

    frames: UInt8[Tensor, "v t h w c"]
    seconds: Float[np.ndarray, "v t"]
    probabilities: Float[Tensor, "v classes"]
    num_crops: int
    aggregation: ViewsAggregation = "mean"

    @property
    def windows(self) -> Float[np.ndarray, "clips classes"]:
        """Class probabilities of each clip, aggregated over its crops."""
        of_clips = self.probabilities.unflatten(0, (-1, self.num_crops))
        return aggregate_views(of_clips, method=self.aggregation).double().numpy()

    @property
    def video(self) -> Float[np.ndarray, " classes"]:
        """Class probabilities of the video, aggregated over its clips."""
        return aggregate_views(torch.from_numpy(self.windows), method=self.aggregation).numpy()

    @property
    def window_seconds(self) -> tuple[Float[np.ndarray, " clips"], Float[np.ndarray, " clips"]]:
        """Start and end of each clip in seconds. A clip ends half a frame interval after its last frame."""
        of_clips = self.seconds[:: self.num_crops]
        starts, ends = of_clips.min(1), of_clips.max(1)
        count = of_clips.shape[1]
        return starts, ends + (ends - starts) / (2 * max(count - 1, 1))


def score_video_views(
    path: str | Path,
    network: ActionNet,
    *,
    num_clips: int | None = None,
    num_crops: int | None = None,
    decoder: Decoder = "pyav",
    fps: float | None = None,
) -> ScoredViews:
    """Sample and score the views of a video, as `farfield test` does.

    Args:
        path: a video file, or a folder of numbered pictures.
        network: network on the device to run on.
        num_clips: number of clips spread over the video; None for the network's test setting.
        num_crops: number of crops of each clip; None for the network's test setting.
        decoder: see `open_video`.
        fps: frame rate of a folder of pictures, see `open_video`.

    Raises:
        VideoError: if the file cannot be decoded, or is shorter than a clip and the network does not loop it.
        FarfieldError: for a number of clips or crops below 1.
    """
    changes = {"num_clips": num_clips, "num_crops": num_crops}
    spec = network.clip.replace(**{name: count for name, count in changes.items() if count is not None})
    views = video_views(
        Path(path),
        VideoRecord(path=str(path), label="", fps=fps),
        spec,
        num_clips=spec.num_clips,
        num_crops=spec.num_crops,
        decoder=decoder,
    )
    scores = score_views(network, views.frames, batch_size=VIEW_BATCH, progress=True)
    probabilities = view_probabilities(scores.logits, 1, network.task)[0].cpu()
    return ScoredViews(views.frames, views.times_seconds, probabilities, spec.num_crops, spec.views_aggregation)


def choose_view(views: ScoredViews, index: int, seconds: float | None = None) -> int:
    """Return the index of the view with the highest probability of a class.

    Args:
        views: views of the video.
        index: index of the class.
        seconds: time that the view must contain. If several views contain it, only the views with the frame nearest to
            this time are compared. None compares all views.

    Raises:
        FarfieldError: for a time that no view contains.
    """
    of_class = views.probabilities[:, index].numpy()
    if seconds is None:
        return int(of_class.argmax())
    starts, ends = (np.repeat(each, views.num_crops) for each in views.window_seconds)
    away = np.maximum(starts - seconds, seconds - ends)
    if not away.min() <= 0:
        nearest = int(away.argmin())
        raise FarfieldError(
            f"time is {seconds:g} s, but no view of this video contains it; the nearest view is from "
            f"{starts[nearest]:.2f} s to {ends[nearest]:.2f} s. Choose a time in a view, or raise num_clips (now "
            f"{len(of_class) // views.num_crops})."
        )
    distances = np.where(away <= 0, np.abs(views.seconds - seconds).min(1), np.inf)
    best = np.flatnonzero(distances <= distances.min() + 1e-6)
    return int(best[of_class[best].argmax()])


def nearest_frame(seconds: Float[np.ndarray, " t"], moment: float) -> int:
    """Return the index of the frame that is nearest in time to `moment`."""
    return int(np.abs(seconds - moment).argmin())
