"""Tone-mapped HDR, against two oracles: the SDR scene itself, and FFmpeg's own colour conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from farfield.curation.transcode import Encoding, transcode
from farfield.video.decoders import open_video
from farfield.video.tone_mapping import HLG, PQ

HEIGHT, WIDTH = 96, 160
BT2020_OF_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """An SDR picture with a grey ramp and a smooth colour gradient."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    colours = np.stack([0.15 + 0.7 * x, 0.15 + 0.7 * y, 0.85 - 0.35 * x - 0.35 * y], -1)
    colours[:32] = x[:32, :, None]
    return np.round(255 * colours)


def signal(scene: np.ndarray, transfer: int) -> np.ndarray:
    """Return the HDR signal of a scene whose white is at 203 cd/m2: the inverse of BT.2100's display."""
    nits = 203 * (scene / 255) ** 2.4 @ BT2020_OF_BT709.T
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = (nits / 10_000) ** m1
        return ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    luminance = np.maximum(nits @ LUMA_2020 / 1000, 1e-9)[..., None]
    light = nits / 1000 * luminance ** (-0.2 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * light), a * np.log(np.maximum(12 * light - b, 1e-9)) + c)


def write_hdr(path: Path, rgb: np.ndarray, transfer: int) -> Path:
    """Write a signal in [0, 1] as three frames of 10 bit, 4:4:4, BT.2020, lossless."""
    luma = rgb @ LUMA_2020
    planes = [
        64 + 876 * luma,
        512 + 896 * (rgb[..., 2] - luma) / 1.8814,
        512 + 896 * (rgb[..., 0] - luma) / 1.4746,
    ]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p10le"
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv444p10le")
        for plane, values in zip(frame.planes, planes, strict=True):
            padded = np.zeros((HEIGHT, plane.line_size // 2), "<u2")
            padded[:, :WIDTH] = np.round(values)
            plane.update(padded.tobytes())
        for target in (stream.codec_context, frame):
            target.color_primaries, target.color_trc, target.colorspace, target.color_range = 9, transfer, 9, 1
        for number in range(3):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def of_ffmpeg(path: Path) -> np.ndarray:
    """Convert to BT.709 with FFmpeg, whose white is at 203 cd/m2, too."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        convert = "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:intent=relative_colorimetric"
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add("scale", convert),
            graph.add("format", "yuv444p"),
            graph.add("buffersink"),
        ).configure()
        graph.vpush(next(container.decode(stream)))
        return graph.vpull().to_ndarray(format="rgb24").astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_hdr_scene_equals_its_sdr_version(scene: np.ndarray, transfer: int, tmp_path: Path) -> None:
    path = write_hdr(tmp_path / "hdr.mkv", signal(scene, transfer), transfer)
    with open_video(path) as video:
        seen = video.frames(np.array([1]))[0].astype(float)
    assert np.abs(seen - scene).mean() < 2.0
    assert np.abs(seen - of_ffmpeg(path)).mean() < 3.0
    with open_video(path, tone_map="off") as video:
        assert np.abs(video.frames(np.array([1]))[0] - scene).mean() > 15
    transcode(path, tmp_path / "stored.mp4", Encoding(crf=4))
    with open_video(tmp_path / "stored.mp4") as video:
        assert np.abs(video.frames(np.array([1]))[0] - scene).mean() < 3.0


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_highlights_are_clipped_to_white(transfer: int, tmp_path: Path) -> None:
    path = write_hdr(tmp_path / "hdr.mkv", np.full((HEIGHT, WIDTH, 3), 0.95), transfer)
    with open_video(path) as video:
        assert video.frames(np.array([0])).min() == 255
