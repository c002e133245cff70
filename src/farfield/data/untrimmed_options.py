"""Options of training on untrimmed videos, and the checks of their values and combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from farfield.clip_spec import ClipSpec
from farfield.data.hard_negatives import content_hash, read_hard_windows
from farfield.data.manifest import Manifest
from farfield.data.untrimmed import HARD_REPEATS, NEGATIVE_SHARE, UntrimmedVideos
from farfield.errors import FarfieldError
from farfield.task import Task


@dataclass(frozen=True)
class UntrimmedOptions:
    """Options of training on untrimmed videos, see `VideoDataModule`.

    Raises:
        FarfieldError: for a value out of range, or an option that is set without the option that it needs (`untrimmed`
            or `hard_negatives`).
    """

    untrimmed: bool = False
    negative_share: float = NEGATIVE_SHARE
    hard_negatives: str | None = None
    hard_negative_repeats: int = HARD_REPEATS

    def __post_init__(self) -> None:
        if not 0 <= self.negative_share < 1:
            raise FarfieldError(f"data.negative_share is {self.negative_share}; it must be at least 0 and below 1.")
        if self.hard_negative_repeats < 1:
            raise FarfieldError(
                f"data.hard_negative_repeats is {self.hard_negative_repeats}; it must be at least 1. To train without "
                "hard negatives, leave out data.hard_negatives."
            )
        idle = {
            "hard_negatives": self.hard_negatives is not None and not self.untrimmed,
            "negative_share": self.negative_share != NEGATIVE_SHARE and not self.untrimmed,
            "hard_negative_repeats": self.hard_negative_repeats != HARD_REPEATS and self.hard_negatives is None,
        }
        if unused := [name for name, is_idle in idle.items() if is_idle]:
            needed = "hard_negatives" if unused == ["hard_negative_repeats"] and self.untrimmed else "untrimmed"
            raise FarfieldError(
                f"data.{unused[0]} has an effect only with data.{needed}. Set data.{needed}, or leave out "
                f"data.{unused[0]}."
            )

    def videos(
        self, manifest: Manifest, labels: Sequence[str], clip: ClipSpec, task: Task, *, whole_videos: bool
    ) -> UntrimmedVideos | None:
        """Return the places in the training videos from which clips are drawn; None if `untrimmed` is not set.

        The places are the labelled segments, the time of each video outside of its segments, and the windows in
        `hard_negatives`.

        Raises:
            FarfieldError: for incompatible settings, and as described for `UntrimmedVideos.of` and `read_hard_windows`.
        """
        if not self.untrimmed:
            return None
        if task != "multilabel":
            raise FarfieldError(
                "data.untrimmed trains on clips with no class or with several, which needs the task 'multilabel', but "
                f"the network's task is {task!r}. Set model.task to multilabel, or leave out data.untrimmed."
            )
        if whole_videos:
            raise FarfieldError(
                "data.untrimmed and data.whole_videos are two ways to draw clips from videos of several segments. "
                "Keep only one: data.untrimmed to find when something happens, data.whole_videos to find what happens "
                "in a video."
            )
        if clip.sampling == "segments":
            raise FarfieldError(
                "data.untrimmed needs clips of a fixed length, but clip.sampling is 'segments', with which a clip "
                "spans the whole video. Set model.clip.sampling to 'clip'."
            )
        return UntrimmedVideos.of(
            manifest,
            labels,
            negative_share=self.negative_share,
            hard_windows=[] if self.hard_negatives is None else read_hard_windows(self.hard_negatives),
            hard_repeats=self.hard_negative_repeats,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the settings that must not change when a run is resumed, by name.

        A setting that has no effect has the value None, for example "negative_share" without `untrimmed`.
        """
        hard = None if self.hard_negatives is None else content_hash(self.hard_negatives)
        return {
            "untrimmed": self.untrimmed,
            "negative_share": self.negative_share if self.untrimmed else None,
            "hard_negatives": hard,
            "hard_negative_repeats": self.hard_negative_repeats if hard else None,
        }
