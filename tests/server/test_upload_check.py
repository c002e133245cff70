"""Each check of an upload, with an ordinary file just within a lowered limit and just beyond it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.clip_spec import ClipSpec
from farfield.errors import VideoError
from farfield.server.limits import Limits, ServerSettings
from farfield.server.refusals import Refused
from farfield.server.upload_check import open_upload
from farfield.video.frame_rate import duration_seconds, frame_rate
from server import bad_uploads
from video.encoding import encode

SPEC = ClipSpec(num_frames=4, crop_px=16)


def check_upload(path: Path, name: str, limits: Limits) -> tuple[float, float]:
    """Open an upload and return its duration and frame rate."""
    with open_upload(path, name, ServerSettings("unused.ckpt", limits), SPEC) as video:
        return duration_seconds(video.times), frame_rate(video.times)


def test_an_ordinary_video_passes_with_its_duration_and_frame_rate(make_video: Callable[..., Path]) -> None:
    seconds, fps = check_upload(make_video(30), "a.mp4", Limits())
    assert seconds == pytest.approx(1.2, abs=0.02)
    assert fps == pytest.approx(25, abs=0.1)


def test_the_chosen_decoder_reads_the_upload(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", num_frames=20)
    for decoder in ("pyav", "decord"):
        settings = ServerSettings("unused.ckpt", Limits(), decoder=decoder)  # type: ignore[arg-type]
        with open_upload(path, "a", settings, SPEC) as video:
            assert video.decoder == decoder  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["gif", "avi", "mp4"])
def test_large_frames_are_refused_before_they_are_decoded(
    kind: str, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """The limit is for small files that decode to enormous frames, and so to more memory than the machine has."""
    path = tmp_path / f"a.{kind}"
    if kind == "mp4":
        path = make_video(30)
    else:
        path.write_bytes(bad_uploads.gif() if kind == "gif" else bad_uploads.motion_jpeg(header_px=64, frame_px=64))
    pixels = 64 * 64 if kind == "avi" else 96 * 48
    check_upload(path, "a", Limits(frame_pixels=pixels))
    with pytest.raises(Refused, match=r"a: its frames are \d+ x \d+; the limit is .* million pixels") as refused:
        check_upload(path, "a", Limits(frame_pixels=pixels - 1))
    assert refused.value.reason == "too_large"


def test_the_frames_own_size_counts_and_not_the_headers(tmp_path: Path) -> None:
    """The same limit, for a file whose header gives its frames a smaller size than they have."""
    path = tmp_path / "a.avi"
    path.write_bytes(bad_uploads.motion_jpeg(header_px=64, frame_px=96))
    check_upload(path, "a", Limits(frame_pixels=96 * 96))
    with pytest.raises(Refused, match="its frames are 96 x 96"):
        check_upload(path, "a", Limits(frame_pixels=96 * 96 - 1))


def test_many_frames_are_refused(tmp_path: Path) -> None:
    """The limit is for small files of very many frames, which keep a worker busy for its whole time."""
    path = tmp_path / "a.gif"
    path.write_bytes(bad_uploads.gif(5))
    check_upload(path, "a", Limits(frame_count=5))
    with pytest.raises(Refused, match=r"a: it has 5 frames; the limit is 4\. Cut the video\.") as refused:
        check_upload(path, "a", Limits(frame_count=4))
    assert refused.value.reason == "too_long"


def test_long_videos_are_refused(make_video: Callable[..., Path]) -> None:
    path = make_video(60, fps=1)
    check_upload(path, "a", Limits(clip_seconds=60.5))
    with pytest.raises(Refused, match=r"a: it is 60 s long; the limit is 59 s\. Cut the video\.") as refused:
        check_upload(path, "a", Limits(clip_seconds=59))
    assert refused.value.reason == "too_long"


@pytest.mark.parametrize("name", bad_uploads.texts())
def test_texts_and_playlists_are_refused_before_ffmpeg_reads_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is for playlists, with which FFmpeg would open files of the server or addresses."""
    opened: list[object] = []
    monkeypatch.setattr("av.open", lambda *given, **_: opened.append(given))
    path = tmp_path / "a.mp4"
    path.write_bytes(bad_uploads.texts()[name])
    with pytest.raises(VideoError, match="it is text, not a video"):
        check_upload(path, "a", Limits())
    assert opened == []


@pytest.mark.parametrize("content", ["picture", "clips.zip", "clip.mp4.gz"])
def test_pictures_and_archives_are_refused(content: str, make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    files = {"picture": bad_uploads.png(), **bad_uploads.archives(make_video(30).read_bytes())}
    path.write_bytes(files[content])
    with pytest.raises(VideoError):
        check_upload(path, "a", Limits())
