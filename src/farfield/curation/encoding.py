"""Encoder settings for H.264 videos that training can read fast.

- Keyframes are a fixed, small number of frames apart. Decoding a random clip starts at the last keyframe before the
  clip, so few frames before the clip are decoded.
- Between the keyframes are long runs of B-frames that no other frame refers to. The reader decodes only those that the
  clip uses.
- The deblocking filter and CABAC entropy coding are off, because they slow decoding down.

The files are larger than with x264's defaults, but random clips are read faster. `scripts/benchmark_data.py` measures
the file sizes and the reading times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from farfield.errors import FarfieldError, nearest
from farfield.video.tone_mapping import ToneMap

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")


@dataclass(frozen=True)
class Encoding:
    """Settings of the encoder.

    Args:
        short_side_px: short side of stored videos in pixels. Larger videos are scaled down, keeping the aspect ratio;
            smaller videos are not enlarged.
        keyframe_interval: number of frames from one keyframe to the next.
        b_frames: number of consecutive B-frames. They are not used as reference frames.
        crf: x264's constant rate factor: 0 is lossless, 23 is x264's default, and 51 is the worst quality.
        preset: x264's preset. A slower preset takes more time to encode and makes smaller files of the same quality.
        deinterlace: "frames" makes one frame from each interlaced frame; "fields" makes one frame from each field, so
            that a video at 25 frames per second is stored at 50; "off" does not deinterlace.
        tone_map: "auto" converts HDR videos (HLG and PQ) to BT.709; "off" leaves them unchanged.
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
        for name, most in (("b_frames", 16), ("crf", 51)):
            if getattr(self, name) > most:
                raise FarfieldError(f"encoding.{name} is {getattr(self, name)}; it must be at most {most}.")

    def x264(self) -> dict[str, str]:
        """Return these settings as options for FFmpeg's libx264."""
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
