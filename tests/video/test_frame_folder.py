"""A folder of numbered pictures is read as a video: the right frames, at the right times, or an error that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import number_of, numbered_frame, write_pictures
from farfield.data.frame_cache import FrameCache
from farfield.errors import VideoError
from farfield.video.decoders import DecodeError, open_video
from farfield.video.frame_folder import check_picture_sizes, list_pictures
from farfield.video.pyav_decoder import PyAVVideo


def touch(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "template",
    ["img_{:05}.jpg", "{:05}.jpeg", "frame-{:06}.png", "v2_{}.JPG", "{}.bmp", "f{:02}.webp", "take 3, {} left.PNG"],
)
@pytest.mark.parametrize("first", [0, 1])
def test_frames_are_those_of_their_numbers(template: str, first: int, tmp_path: Path) -> None:
    """Also 9 before 10 and 99 before 100, and with other files in the folder."""
    folder = write_pictures(tmp_path / "clip", 107, template=template, first=first)
    touch(folder, ["Thumbs.db", "notes.txt", "labels_3.json", ".hidden_001.jpg"])
    with open_video(folder, fps=12.5) as video:
        np.testing.assert_allclose(video.times, np.arange(107) / 12.5)
        wanted = np.array([100, 9, 10, 99, 9, 0, 106])
        assert [number_of(frame) for frame in video.frames(wanted)] == wanted.tolist()
        places = np.array([2, 8, 11])
        shown = [(place, number_of(frame)) for place, frame in video.pictures(places)]
        assert shown == [(2, 2), (8, 8), (11, 11)]
        with pytest.raises(DecodeError, match="the video ends before frame 107"):
            video.frames(np.array([107]))


def test_frames_are_pillows(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", 3)
    with open_video(folder, fps=25) as video:
        frames = video.frames(np.arange(3))
    assert frames.dtype == np.uint8
    for number, frame in enumerate(frames):
        assert np.array_equal(frame, np.asarray(Image.open(folder / f"img_{number + 1:05}.jpg")))


@pytest.mark.parametrize("short_side_px", [24, 20, 25, None])
def test_frames_are_reduced_as_those_of_a_video_file(short_side_px: int | None, tmp_path: Path) -> None:
    """The same pictures in a folder and, without loss, in a video file."""
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (53, 86, 3), dtype=np.uint8) for _ in range(3)]
    (tmp_path / "clip").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"clip/{number}.png")
    path = tmp_path / "clip.mkv"
    _write_lossless(path, pictures)
    video = PyAVVideo(path)
    expected = video.frames(np.arange(3), short_side_px)
    video.close()
    with open_video(tmp_path / "clip", fps=25) as folder:
        assert np.array_equal(folder.frames(np.arange(3), short_side_px), expected)


def _write_lossless(path: Path, pictures: list[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.txt"], r"the folder holds no pictures \(.bmp .jpeg .jpg .png .webp\)"),
        (["img_1.jpg", "img_2.jpg", "img_4.jpg", "img_5.jpg"], "picture 3 is missing between img_2.jpg and img_4.jpg"),
        (["img_1.jpg", "img_2.jpg", "flow_1.jpg", "flow_2.jpg"], "flow_1.jpg and img_1.jpg differ in more than their"),
        (["img_1.jpg", "flow_x_1.jpg", "other_1.jpg"], "differ in more than their number"),
        (["1.jpg", "2.jpg", "flow_x_1.jpg", "flow_x_2.jpg"], "differ in more than their number"),
        (["1.jpg", "2.jpg", "3.png"], "2.jpg and 3.png differ in more than their number; give each sequence"),
        (["1.jpg", "01.jpg", "2.jpg"], "01.jpg and 1.jpg have the same number; remove one of them"),
        (["31.jpg", "32.jpg"], "the first picture is 31.jpg; number the pictures from 0 or 1"),
        (["1.jpg", "2.jpg", "cover.jpg"], "cover.jpg has no number; number every picture of the folder, or move it"),
    ],
)
def test_a_folder_that_is_not_one_sequence_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=message), open_video(touch(tmp_path, names), fps=25):
        pass


def test_padded_and_plain_numbers_may_be_mixed(tmp_path: Path) -> None:
    assert list_pictures(touch(tmp_path, ["08.jpg", *(f"{i}.jpg" for i in (1, 2, 3, 4, 5, 6, 7, 9, 10))]))[6:] == [
        "7.jpg",
        "08.jpg",
        "9.jpg",
        "10.jpg",
    ]


@pytest.mark.parametrize(
    ("fps", "message"),
    [
        (None, "the frame rate of this folder of pictures is unknown; give it as fps, or in the manifest's column fps"),
        (0, "fps is 0; the frame rate of a folder of pictures must be a positive number"),
    ],
)
def test_times_are_not_invented(fps: float | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=message), open_video(write_pictures(tmp_path / "clip", 2), fps=fps):
        pass


def test_pictures_of_another_size_are_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", 5)
    Image.fromarray(numbered_frame(3, width=97)).save(folder / "img_00004.jpg")
    message = "img_00004.jpg has 97 x 48 pixels, but img_00001.jpg has 96 x 48; give all pictures one size"
    with open_video(folder, fps=25) as video:
        assert len(video.frames(np.array([0, 1, 2, 4]))) == 4
        with pytest.raises(DecodeError, match=message):
            video.frames(np.array([3]))
    with pytest.raises(VideoError, match=message):
        check_picture_sizes(folder)


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", 4)
    whole = (folder / "img_00002.jpg").read_bytes()
    (folder / "img_00002.jpg").write_bytes(whole[:-40])
    (folder / "img_00003.jpg").write_bytes(b"no picture")
    with open_video(folder, fps=25) as video:
        with pytest.raises(DecodeError, match=r"img_00002\.jpg cannot be read: image file is truncated"):
            video.frames(np.array([1]))
        with pytest.raises(DecodeError, match=r"img_00003\.jpg is not a picture, or is damaged"):
            video.frames(np.array([2]))
        (folder / "img_00004.jpg").unlink()
        with pytest.raises(DecodeError, match=r"img_00004\.jpg cannot be read: No such file"):
            video.frames(np.array([3]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "P with transparency"])
def test_grey_palettes_and_transparency_become_rgb(mode: str, tmp_path: Path) -> None:
    for number in range(2):
        kind = {"dither": Image.Dither.NONE, "palette": Image.Palette.ADAPTIVE}
        picture = Image.fromarray(numbered_frame(number + 5)).convert(mode.split()[0], **kind)
        if mode in ("LA", "RGBA"):
            picture.putalpha(40)  # the colours below are kept, not blended
        more = {"transparency": b"\x00\x80"} if mode.startswith("P ") else {}
        picture.save(tmp_path / f"{number}.png", **more)
    with open_video(tmp_path, fps=25) as video:
        frames = video.frames(np.array([0, 1]))
    assert frames.shape == (2, 48, 96, 3)
    assert [number_of(frame) for frame in frames] == [5, 6]
    if mode != "1":
        assert frames[0, 0, 0] == pytest.approx(128, abs=4)


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 96), 3000, np.uint16)).save(tmp_path / "1.png")
    with open_video(tmp_path, fps=25) as video, pytest.raises(DecodeError, match=r"1\.png has more than 8 bits"):
        video.frames(np.array([0]))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_exif_orientation_turns_pictures_upright(suffix: str, tmp_path: Path) -> None:
    """Orientation 6: the stored picture is to be turned clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(numbered_frame(number + 3))))
        turned.save(tmp_path / f"{number}{suffix}", exif=exif, quality=95)
    check_picture_sizes(tmp_path)
    with open_video(tmp_path, fps=25) as video:
        frames = video.frames(np.array([0, 1]))
    assert frames.shape == (2, 48, 96, 3)
    assert [number_of(frame) for frame in frames] == [3, 4]


def test_a_folder_is_cached(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", 20)
    cache = FrameCache(10**8)
    for indices in ([3, 17], [3, 5, 17]):
        with cache.open(folder, fps=10) as video:
            assert [number_of(frame) for frame in video.frames(np.array(indices))] == indices
            assert video.times[5] == 0.5


def test_both_decoders_read_a_folder(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", 3)
    with open_video(folder, "decord", fps=25) as video:
        assert number_of(video.frames(np.array([2]))[0]) == 2
        assert (video.decoder, video.fallback_reason) == ("pyav", None)


def test_a_files_own_times_win(make_video: Callable[..., Path]) -> None:
    with open_video(make_video(40), fps=5) as video:
        assert video.times[25] == pytest.approx(1)


def test_optical_flow_beside_the_pictures_is_ignored(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "a", 7)
    for name in list_pictures(folder)[:-1]:  # flow is between two pictures
        for axis in "xy":
            Image.new("L", (5, 3)).save(folder / name.replace("img", f"flow_{axis}"))
    with open_video(folder, fps=25) as video:
        assert [number_of(frame) for frame in video.frames(np.arange(7))] == list(range(7))
    check_picture_sizes(folder)
