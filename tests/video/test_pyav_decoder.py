"""Each frame is the requested one, or there is an error, for the files of real collections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import number_of
from farfield.video import packet_index
from farfield.video.container import NOT_VIDEOS
from farfield.video.decoders import DecodeError, open_video
from farfield.video.packet_reader import PacketReader
from farfield.video.pyav_decoder import PyAVVideo
from video.encoding import encode


def numbers_in(path: Path, wanted: list[int], short_side_px: int | None = None) -> list[int]:
    with open_video(path) as video:
        return [number_of(frame) for frame in video.frames(np.array(wanted), short_side_px)]


def walked(path: Path, wanted: list[int]) -> list[int]:
    """Read the numbers in one pass, and check that they agree with the places."""
    with open_video(path) as video:
        found = [(place, number_of(picture)) for place, picture in video.pictures(np.array(wanted))]
    assert all(place == number for place, number in found)
    return [number for _, number in found]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("10_bit.mp4", "libx264", {"pix_fmt": "yuv420p10le"}),
        ("444.mp4", "libx264", {"pix_fmt": "yuv444p"}),
        ("hevc.mp4", "libx265", {}),  # open groups of pictures, which is x265's own default
        ("hevc_10_bit.mkv", "libx265", {"pix_fmt": "yuv420p10le"}),
        ("open_groups.mp4", "libx264", {"x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
        ("pyramid.mp4", "libx264", {"x264-params": "b-pyramid=normal:bframes=7:b-adapt=0"}),
        ("vp9.webm", "libvpx-vp9", {"b_frames": None, "cpu-used": "8"}),
        ("vp8.webm", "libvpx", {"b_frames": None}),
        ("av1.mp4", "libsvtav1", {"b_frames": None, "preset": "8", "svtav1-params": "pred-struct=1"}),
        ("mpeg2.mpg", "mpeg2video", {}),
        ("mpeg2.ts", "mpeg2video", {}),
        ("mpeg4.avi", "mpeg4", {}),
        ("h264.ts", "libx264", {}),
        ("animation.gif", "gif", {"pix_fmt": "rgb8", "b_frames": None}),
        ("frames.mov", "mjpeg", {"pix_fmt": "yuvj420p", "b_frames": None}),
        ("fragmented.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("intra.mkv", "ffv1", {"b_frames": None}),
    ],
)
def test_every_frame_is_the_one_asked_for(name: str, codec: str, options: dict, tmp_path: Path) -> None:
    path = encode(tmp_path / name, codec, **options)
    rng = np.random.default_rng(0)
    for wanted in ([0, 39], [25], [13, 12, 11, 12], sorted(rng.choice(40, 8, replace=False).tolist())):
        assert numbers_in(path, wanted) == wanted
        assert walked(path, sorted(set(wanted))) == sorted(set(wanted))
    with open_video(path) as video:
        assert len(video.times) == 40
        np.testing.assert_allclose(np.diff(video.times), 0.04, atol=2e-3)


def test_an_open_video_can_be_read_repeatedly(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4")
    with open_video(path) as video:
        for wanted in ([30, 31], [2], [39], [0, 20, 38], [2]):
            assert [number_of(frame) for frame in video.frames(np.array(wanted))] == wanted


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_files_above_the_memory_limit_are_read_by_seeking(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / name, times=None if name != "a.mp4" else [0.04 * i + 0.01 * (i % 2) for i in range(40)])
    monkeypatch.setattr(packet_index, "HELD_BYTES", 100)
    video = PyAVVideo(path)
    assert video._reader.index.packets is None
    for wanted in ([7, 22, 39], [1], [38]):
        assert [number_of(frame) for frame in video.frames(np.array(wanted))] == wanted
    video.close()


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.24, 3.0]
    path = encode(tmp_path / "a.mp4", num_frames=8, times=times)
    with open_video(path) as video:
        np.testing.assert_allclose(video.times, times, atol=1e-3)
    assert numbers_in(path, [3, 5, 7]) == [3, 5, 7]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_is_returned_upright(rotation: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", num_frames=5, rotation=rotation)
    plain = encode(tmp_path / "b.mp4", num_frames=5)
    with open_video(path) as turned, open_video(plain) as upright:
        expected = np.rot90(upright.frames(np.array([3])), rotation // 90, axes=(1, 2))
        np.testing.assert_array_equal(turned.frames(np.array([3])), expected)


def test_odd_sizes(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pix_fmt="yuv444p", size=(193, 97))
    with open_video(path) as video:
        assert video.frames(np.array([4])).shape == (1, 97, 193, 3)


def test_one_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", num_frames=1)
    with open_video(path) as video:
        np.testing.assert_array_equal(video.times, [0.0])
    assert numbers_in(path, [0]) == [0]


def test_frames_before_the_first_keyframe_are_left_out(tmp_path: Path) -> None:
    """A stream that begins inside a group of pictures, as recordings of broadcasts do."""
    whole = encode(tmp_path / "whole.ts", gop=12)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.ts"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size and place >= 5:
                packet.stream = stream
                target.mux(packet)
    with open_video(tmp_path / "cut.ts") as video:
        first = number_of(video.frames(np.array([0]))[0])
        assert first == 12
        assert len(video.times) == 28
        assert number_of(video.frames(np.array([27]))[0]) == 39


def test_large_frames_are_reduced_but_not_below_the_requested_size(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", size=(384, 192))
    with open_video(path) as video:
        assert video.frames(np.array([1]), 48).shape == (1, 48, 96, 3)
        assert video.frames(np.array([1]), 100).shape == (1, 192, 384, 3)  # a factor below two is left to others
        assert number_of(video.frames(np.array([37]), 48)[0]) == 37


def test_only_needed_frames_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame of each group of 12: unreferenced frames, and frames after the last, are not decoded."""
    path = encode(tmp_path / "a.mp4", num_frames=48, **{"x264-params": "keyint=12:bframes=3:b-adapt=0:b-pyramid=none"})
    decoded = []
    put = PacketReader.decode

    def counted(self: PacketReader, packets):
        for frame in put(self, packets):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(PacketReader, "decode", counted)
    wanted = [2, 14, 26, 38]  # a B-frame: it needs the keyframe and the frame four after it
    assert numbers_in(path, wanted) == wanted
    assert len(decoded) == 2 * 4  # the keyframe and it; the frame four after it is decoded, and not waited for
    decoded.clear()
    assert walked(path, wanted) == wanted
    assert len(decoded) == len(set(decoded)) < 20  # each once, and of 48 no B-frame that nobody needs


def test_a_pass_through_a_truncated_file_yields_its_frames(make_video: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_video(200).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    seen = []

    def walk() -> None:
        with open_video(tmp_path / "cut.mp4") as video:
            for place, picture in video.pictures(np.arange(0, 200, 7)):
                assert number_of(picture) == place
                seen.append(place)

    with pytest.raises(DecodeError, match=r"cut\.mp4: "):
        walk()
    assert seen == list(range(0, seen[-1] + 1, 7))
    assert len(seen) > 12


@pytest.mark.parametrize("content", ["#EXTM3U\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\n"])
def test_playlists_are_refused(content: str, tmp_path: Path) -> None:
    """A playlist could make FFmpeg read other files of the machine; these name none."""
    assert {"hls", "applehttp", "dash", "concat", "sdp", "imf"} <= NOT_VIDEOS
    (tmp_path / "list.mp4").write_text(content)
    with pytest.raises(DecodeError, match=r"no video stream|Invalid data"), open_video(tmp_path / "list.mp4"):
        pass


def test_a_file_name_with_a_colon_is_not_a_protocol(
    tmp_path: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:clip.mp4").write_bytes(make_video(40).read_bytes())
    assert numbers_in(Path("http:clip.mp4"), [11]) == [11]


def test_damage_raises_instead_of_being_concealed(tmp_path: Path) -> None:
    """decord returns concealed frames of half of these 40 files; one decodes without an error."""
    whole = encode(tmp_path / "a.mp4", num_frames=60, gop=60).read_bytes()
    read = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        begin = int(rng.integers(len(data) // 4, data.index(b"moov") - 6))  # pictures, not the index of their times
        data[begin : begin + 6] = rng.bytes(6)
        (tmp_path / "b.mp4").write_bytes(data)
        with contextlib.suppress(DecodeError):
            numbers_in(tmp_path / "b.mp4", list(range(60)))
            read += 1
    assert read <= 2


def test_concatenated_streams_are_read_in_order(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{i}.ts", num_frames=30, numbers=range(30 * i, 30 * (i + 1))) for i in range(2)]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(tmp_path / "both.ts") as video:
        assert len(video.times) == 60
        assert (np.diff(video.times) > 0).all()
    assert numbers_in(tmp_path / "both.ts", [0, 29, 30, 59]) == [0, 29, 30, 59]


def test_a_still_is_not_chosen_as_the_video_stream(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", num_frames=20)
    still = encode(tmp_path / "still.mov", "mjpeg", num_frames=1, pix_fmt="yuvj420p", b_frames=None)
    with av.open(str(tmp_path / "both.mkv"), "w") as target, av.open(str(still)) as a, av.open(str(clip)) as b:
        streams = [target.add_stream_from_template(each.streams.video[0]) for each in (a, b)]
        for source, stream in zip((a, b), streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    assert numbers_in(tmp_path / "both.mkv", [19, 3]) == [19, 3]


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4")
    with pytest.raises(DecodeError), open_video(path) as video:
        video.frames(np.array([400]))
    open_files = [link.resolve() for link in Path("/proc/self/fd").iterdir()] if Path("/proc").is_dir() else []
    assert path not in open_files
