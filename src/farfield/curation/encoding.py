"""Settings of the encoder: H.264 that training reads fast.

Random clips are cheap to read with short groups of pictures, since few frames lie between a clip and the keyframe
before it. Within a group, frames that no other refers to cost bytes but no time, since the reader drops those it does
not need. So videos have keyframes at a fixed distance, runs of B-frames that are never referred to, and neither in-loop
filter nor arithmetic coding, which slow the decoder down (`scripts/benchmark_data.py` measures each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from farfield.errors import FarfieldError, nearest
from farfield.video.tone_mapping import ToneMap

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")


@dataclass(frozen=True)
class Encoding:
    """How videos are encoded.

    Args:
        short_side_px: short side in pixels to which larger videos are reduced, keeping the aspect ratio. Smaller
            videos are not enlarged.
        keyframe_interval: number of frames from one keyframe to the next.
        b_frames: number of consecutive B-frames, to which no other frame refers.
        crf: x264's constant rate factor: 0 is lossless, 23 x264's default, 51 the worst quality.
        preset: x264's preset: slower ones need fewer bytes for the same quality, and more time to encode.
        deinterlace: "frames" makes one picture of each interlaced frame; "fields" makes one of each field, so that a
            video at 25 frames per second is stored at 50; "off" does not deinterlace.
        tone_map: "auto" converts HDR pictures (HLG and PQ) to BT.709; "off" converts none.
    """

    short_side_px: int = 256
    keyframe_interval: int = 64
    b_frames: int = 15
    crf: int = 23
    preset: str = "medium"
    deinterlace: Literal["frames", "fields", "off"] = "frames"
    tone_map: ToneMap = "auto"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise FarfieldError(f"encoding.preset is {self.preset!r}. {nearest(self.preset, PRESETS)}")
        for name, least in (("short_side_px", 16), ("keyframe_interval", 1), ("b_frames", 0), ("crf", 0)):
            if getattr(self, name) < least:
                raise FarfieldError(f"encoding.{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("deinterlace", "tone_map"):
            choices = get_args(get_type_hints(Encoding)[name])
            if getattr(self, name) not in choices:
                raise FarfieldError(
                    f"encoding.{name} is {getattr(self, name)!r}. {nearest(getattr(self, name), choices)}"
                )
        if self.b_frames > 16 or self.crf > 51:
            raise FarfieldError("encoding.b_frames is at most 16 and encoding.crf at most 51.")

    def x264(self) -> dict[str, str]:
        """Return the options of FFmpeg's libx264."""
        b_frames = min(self.b_frames, max(self.keyframe_interval - 2, 0))
        structure = {
            "keyint": self.keyframe_interval,
            "min-keyint": self.keyframe_interval,
            "scenecut": 0,
            "open-gop": 0,
            "bframes": b_frames,
            "b-adapt": 0,
            "b-pyramid": "none",
        }
        params = ":".join(f"{name}={value}" for name, value in structure.items())
        return {
            "crf": str(self.crf),
            "preset": self.preset,
            "tune": "fastdecode",
            "threads": "1",
            "x264-params": params,
        }
