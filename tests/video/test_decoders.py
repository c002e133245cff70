from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from conftest import number_of, numbered_frame
from farfield.curation.transcode import Encoding, transcode
from farfield.errors import FarfieldError
from farfield.video import decoders, decord_library
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import DecodeError, current_name, open_video
from farfield.video.decord_decoder import DecordVideo
from farfield.video.writer import write_video
from video.encoding import encode


def test_frames_come_in_the_requested_order(make_video: Callable[..., Path]) -> None:
    with open_video(make_video(300)) as video:
        wanted = np.array([299, 0, 17, 17, 128, 250])
        frames = video.frames(wanted)
        assert frames.dtype == np.uint8
        assert frames.shape == (6, 48, 96, 3)
        assert [number_of(frame) for frame in frames] == wanted.tolist()


def test_times_are_display_times(make_video: Callable[..., Path]) -> None:
    with open_video(make_video(40, fps=20)) as video:
        np.testing.assert_allclose(video.times, np.arange(40) / 20, atol=1e-4)


@pytest.mark.parametrize("width", [112, 130])
def test_both_decoders_return_the_same_pixels(width: int, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", (numbered_frame(i, width=width) for i in range(30)), fps=25)
    wanted = np.array([0, 13, 29])
    with open_video(tmp_path / "a.mp4") as video:
        frames = video.frames(wanted)
    np.testing.assert_array_equal(frames, DecordVideo(tmp_path / "a.mp4").frames(wanted))


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx265"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.flv", "libx264"),
        ("a.mp4", "mpeg4"),
        ("a.mkv", "mpeg4"),
        ("a.avi", "mpeg4"),
        ("a.avi", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.mpg", "mpeg1video"),
        ("a.wmv", "wmv2"),
        ("a.ts", "libx264"),
        ("a.ts", "mpeg2video"),
    ],
)
def test_frames_are_exact_in_every_container(decoder: Decoder, name: str, codec: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        options = {"g": "30", "crf": "20"} if codec.startswith("lib") else {"g": "30", "qmin": "1", "qmax": "3"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        if not codec.startswith(("wmv", "libvpx")):
            stream.codec_context.max_b_frames = 2
        for i in range(120):
            picture = numbered_frame(i).repeat(2, axis=0).repeat(2, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    wanted = [57, 3, 90, 118]
    with open_video(tmp_path / name, decoder) as video:
        assert len(video.times) == 120
        assert [number_of(frame) for frame in video.frames(np.array(wanted))] == wanted
        np.testing.assert_allclose(np.diff(video.times), 0.04, atol=2e-3)


@pytest.mark.parametrize("name", ["notes.txt", "picture.png", "picture.jpg"])
def test_texts_and_pictures_are_refused(name: str, tmp_path: Path) -> None:
    """FFmpeg would decode them."""
    if name.endswith("txt"):
        (tmp_path / name).write_text("some lines\n" * 200)
    else:
        Image.fromarray(numbered_frame(5)).save(tmp_path / name)
    with pytest.raises(DecodeError, match="the file has no video stream"), open_video(tmp_path / name):
        pass


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "there is no such file"),
        ("empty", "the file is empty"),
        ("text", "Invalid data found"),
        ("truncated", "the file has no video stream"),
        ("audio_only", "the file has no video stream"),
    ],
)
def test_unreadable_file_is_named_with_its_reason(
    decoder: Decoder, name: str, reason: str, bad_files: dict[str, Path]
) -> None:
    with pytest.raises(DecodeError, match=reason) as caught, open_video(bad_files[name], decoder):
        pass
    assert caught.value.path == str(bad_files[name])
    assert "\n" not in caught.value.reason


def test_damage_in_the_middle_raises(bad_files: dict[str, Path]) -> None:
    with pytest.raises(DecodeError), open_video(bad_files["corrupt"]) as video:  # either may notice
        video.frames(np.arange(0, 40, 3))


def test_beginning_of_a_truncated_file_can_be_read(make_video: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_video(200).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    with open_video(tmp_path / "cut.mp4") as video:
        assert [number_of(frame) for frame in video.frames(np.array([0, 40]))] == [0, 40]
        with pytest.raises(DecodeError):
            video.frames(np.array([0, 199]))
    encode(tmp_path / "b_frames.mp4", num_frames=60, b_frames=5)
    transcode(
        tmp_path / "b_frames.mp4", tmp_path / "stored.mp4", Encoding(keyframe_interval=16)
    )  # its index comes first
    whole = (tmp_path / "stored.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.9)])
    with open_video(tmp_path / "cut.mp4") as video, pytest.raises(DecodeError, match=r"cut off after \d+ of 60 frames"):
        video.frames(np.array([59]))


def test_decord_and_decord2_installed_together_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decord_library, "version", lambda name: "9.9")
    with pytest.warns(RuntimeWarning, match=r"decord 9\.9 and decord2 9\.9 are both installed.*pip uninstall"):
        decord_library.warn_of_two_decords()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is loaded")
def test_decord_loads_no_cuda_libraries() -> None:
    """decord2 would load all that pip installed; with NVBLAS among them, a later import of PyTorch crashes."""
    code = (
        "from farfield.video.decord_library import decord\n"
        "print('nvblas' in open('/proc/self/maps').read(), decord.__name__)\n"
        "import torch\n"
        "print(*torch.nn.Conv3d(3, 2, 3)(torch.zeros(1, 3, 4, 9, 9)).shape)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.stdout == "False decord\n1 2 2 7 7\n"


@pytest.mark.skipif(version("decord2") < "3.4", reason="earlier releases did not")
def test_decord_still_looks_up_the_package_nvidia_on_import() -> None:
    """Private: if this fails, `decord_library.import_decord` no longer hides what decord loads, or is not needed."""
    source = Path(decord_library.decord._ffi.base.__file__).read_text()
    assert 'find_spec("nvidia")' in source
    assert "RTLD_GLOBAL" in source


def test_decord_is_imported_on_first_use(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from farfield.video.decoders import open_video\n"
        "for decoder in ('pyav', 'decord'):\n"
        f"    with open_video({str(encode(tmp_path / 'a.mp4'))!r}, decoder) as video:\n"
        "        print(video.decoder, 'decord' in sys.modules)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.stdout == "pyav False\ndecord True\n"


def test_files_that_pyav_reads_instead_of_decord_are_counted_by_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_fallbacks", defaultdict(set))
    plain, transport = encode(tmp_path / "plain.mp4"), encode(tmp_path / "0.ts")
    with open_video(plain, "decord") as video:
        assert (video.decoder, video.fallback_reason) == ("decord", None)
        assert [number_of(frame) for frame in video.frames(np.array([9, 33]))] == [9, 33]
    for number in range(12):
        path = tmp_path / f"{number}.ts"
        path.write_bytes(transport.read_bytes())
        for _ in range(2):  # as in two epochs
            with open_video(path, "decord") as video:
                assert (video.decoder, video.fallback_reason) == ("pyav", "container mpegts")
                assert [number_of(frame) for frame in video.frames(np.array([9, 33]))] == [9, 33]
    said = [record.getMessage() for record in caplog.records if "decord" in record.getMessage()]
    assert len(said) == 2
    assert (
        "PyAV reads files on which decord would fail or return wrong frames: 1 file so far. "
        "Reason: container mpegts. Latest file: " in said[0]
    )
    assert (
        "PyAV reads files on which decord would fail or return wrong frames: 10 files so far. "
        "Reason: container mpegts. Latest file: " in said[1]
    )


@pytest.mark.parametrize("width", [24, 48, 72, 96, 144])
def test_pyav_reads_widths_that_decord_misreads(width: int, tmp_path: Path) -> None:
    """decord raises for 24, 48, 96 and 144 where FFmpeg aligns rows to 64 bytes, for 24, 48 and 72 where to 32."""
    write_video(tmp_path / "a.mp4", (numbered_frame(i, width=192)[:, :width] for i in range(30)), fps=25)
    with open_video(tmp_path / "a.mp4", "decord") as video, open_video(tmp_path / "a.mp4") as expected:
        assert video.decoder == "pyav"
        np.testing.assert_array_equal(video.frames(np.arange(30)), expected.frames(np.arange(30)))


def test_decord_error_becomes_a_decode_error_that_names_pyav(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4")
    with open_video(path, "decord") as video:
        assert video.decoder == "decord"
        with pytest.raises(DecodeError, match=r"\(reported by decord; try the decoder pyav\)") as caught:
            video.frames(np.array([40]))
        assert "\n" not in caught.value.reason
        with pytest.raises(DecodeError, match="try the decoder pyav"):
            list(video.pictures(np.array([39, 40])))


def test_unknown_decoder_is_refused_and_former_name_accepted(make_video: Callable[..., Path]) -> None:
    with (
        pytest.raises(FarfieldError, match=r"decoder is 'PyAV'. Known: pyav, decord. Did you mean 'pyav'\?"),
        open_video(make_video(40), "PyAV"),  # type: ignore[arg-type]
    ):
        pass
    assert [current_name(each) for each in ("PyAV", "pyav", "decord")] == ["pyav", "pyav", "decord"]  # type: ignore[arg-type]
