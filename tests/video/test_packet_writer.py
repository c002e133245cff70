from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from farfield.inference.stream_clock import PacketClock
from farfield.video.packet_buffer import StoredPacket
from farfield.video.packet_writer import StreamTemplate, packet_writer
from streams import packets_of, write_levels

LEVELS = list(range(20, 146, 2))  # 63 frames


@pytest.fixture(scope="module", params=["ts", "mkv", "mp4"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / f"a.{request.param}"
    return write_levels(path, LEVELS, g="10", bf="2", **{"x264-params": "aud=1"})


def stored(path: Path) -> tuple[list[StoredPacket], StreamTemplate]:
    """The packets of a file, and what is left of its stream when it is closed."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        clock = PacketClock(100.0, 1 / 25)
        packets = [each for packet in container.demux(stream) if packet.size for each in clock.store(packet)]
        return packets, StreamTemplate(stream)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_packets_are_the_same_and_decode(source: Path, tmp_path: Path, suffix: str) -> None:
    packets, template = stored(source)
    assert template.suffix == ".mp4"
    assert len(packets) == 63
    seconds = sorted(each.seconds for each in packets)
    np.testing.assert_allclose(seconds, 100 + np.arange(63) / 25, atol=2e-3)  # Matroska's are in milliseconds
    out = tmp_path / f"out{suffix}"
    with packet_writer(out, template) as write:
        for each in packets[20:]:
            write(each)
        assert not out.exists()
    assert packets_of(out) == packets_of(source)[20:]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    frames, original = decoded(out), decoded(source)
    assert len(frames) == 43
    for frame, other in zip(frames, original[20:], strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(), other.to_ndarray())
    np.testing.assert_allclose(np.diff([frame.time for frame in frames]), 1 / 25, atol=2e-3)


def test_time_continues_where_the_clock_jumps_back(source: Path, tmp_path: Path) -> None:
    packets, template = stored(source)
    with packet_writer(tmp_path / "out.mp4", template) as write:
        for each in [*packets[:40], *packets[:40]]:
            write(each)
    times = [float(frame.time or 0) for frame in decoded(tmp_path / "out.mp4")]
    assert len(times) == 80
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=0.09)  # B-frames at the cut lack the one that they precede


def test_an_error_leaves_no_file(source: Path, tmp_path: Path) -> None:
    packets, template = stored(source)

    def fail() -> Iterator[None]:
        with packet_writer(tmp_path / "out.mp4", template) as write:
            write(packets[0])
            raise OSError("disk full")
        yield

    with pytest.raises(OSError, match="disk full"):
        list(fail())
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_mp4_does_not_hold_goes_to_matroska(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        made = container.add_stream("libvpx", rate=25)
        made.width = made.height = 96
        for level in LEVELS[:10]:
            container.mux(made.encode(av.VideoFrame.from_ndarray(np.full((96, 96, 3), level, np.uint8))))
        container.mux(made.encode(None))
    packets, template = stored(tmp_path / "a.webm")
    assert template.suffix == ".mkv"
    with packet_writer(tmp_path / "out.mkv", template) as write:
        for each in packets:
            write(each)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [bytes(each) for each in container.demux() if each.size] == [each.data for each in packets]
