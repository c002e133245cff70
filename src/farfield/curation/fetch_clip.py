"""Fetch one video with yt-dlp and cut the annotated clip out of it."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.curation.encoding import Encoding
from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.transcode import transcode
from farfield.errors import FarfieldError, VideoError

PERMANENT_FAILURES = {
    r"private video|video is private": "the video is private",
    r"confirm your age|age.restricted": "the video is restricted by age",
    r"has been removed|was removed": "the video was removed",
    r"account .*terminated": "the uploader's account was closed",
    r"copyright": "the video was blocked for copyright",
    r"in your country": "the video is not available in this country",
    r"video (is )?unavailable|video is not available|video is no longer available": "the video is unavailable",
    r"http error (404|410)\b": "the address does not exist",
}
"""Dict from regular expressions for yt-dlp's error messages to the reason to record. The first match counts."""

PERMANENT_REASONS = frozenset(PERMANENT_FAILURES.values()) | {
    "it asks for an account that shows its owner's age",
    "the account of who uploaded it was closed",
    "it was taken down for copyright",
    "it is not shown in this country",
    "there is nothing at its address",
}
"""Reasons in failures.csv for which a clip is not requested again, including wordings of earlier versions."""

RATE_LIMITED = r"http error 429\b|not a bot|rate-limited|too many requests"
"""Regular expression for messages of yt-dlp which mean that the site currently refuses all requests."""


@dataclass(frozen=True)
class FetchJob:
    """One clip to fetch.

    Attributes:
        id: YouTube id of the video.
        url: address of the video.
        target: file to write.
        start_seconds: start of the clip in the video.
        end_seconds: end of the clip in the video.
        options: options for yt-dlp.
        encoding: settings of the encoder.
        pause_seconds: pause before the first request.
    """

    id: str
    url: str
    target: Path
    start_seconds: float
    end_seconds: float
    options: dict[str, Any]
    encoding: Encoding
    pause_seconds: float


@dataclass(frozen=True)
class Fetched:
    """Result of fetching one clip.

    Attributes:
        reason: why the clip could not be fetched; None if it was fetched.
        warnings: yt-dlp's warnings, without duplicates.
    """

    reason: str | None
    warnings: tuple[str, ...]


def fetch(job: FetchJob) -> Fetched:
    """Fetch a video and cut the clip out of it.

    This function runs in a worker process.

    Raises:
        FarfieldError: if the site currently refuses all requests, or the clip cannot be written.
    """
    messages = Messages(job.id)
    try:
        _fetch(job, messages)
    except VideoError as error:
        return Fetched(error.reason, tuple(messages.warnings))
    return Fetched(None, tuple(messages.warnings))


def _fetch(job: FetchJob, messages: Messages) -> None:
    import yt_dlp

    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(job.url, f"the folder {job.target.parent.name} cannot be created: {error.strerror}") from error
    time.sleep(job.pause_seconds)
    with tempfile.TemporaryDirectory() as folder:
        options = job.options | {"outtmpl": str(Path(folder, "video.%(ext)s")), "logger": messages}
        try:
            with yt_dlp.YoutubeDL(options) as downloader:
                downloader.download([job.url])
        except yt_dlp.utils.DownloadError as error:
            text = str(error)
            if re.search(RATE_LIMITED, _plain(text).lower()):
                raise FarfieldError(
                    f"{job.url}: {_plain(text).rstrip('.')}. The site currently refuses all requests. Run the same "
                    "command later to continue. If the site refuses again, also give a smaller num_workers and a "
                    "longer pause_seconds."
                ) from error
            raise VideoError(job.url, reason_for(text)) from error
        files = [path for path in Path(folder).iterdir() if has_video_suffix(path)]
        if not files:
            raise VideoError(job.url, "yt-dlp did not write a video file")
        start, end = job.start_seconds, job.end_seconds
        transcode(files[0], job.target, job.encoding, start_seconds=start, end_seconds=end, name=job.url)


def reason_for(text: str) -> str:
    """Map an error message of yt-dlp to a known short reason; return the message's first line if none fits."""
    for pattern, reason in PERMANENT_FAILURES.items():
        if re.search(pattern, _plain(text).lower()):
            return reason
    return _plain(text)


class Messages:
    """Logger for yt-dlp that keeps only warnings. Errors are not kept, since yt-dlp also raises them."""

    def __init__(self, video: str) -> None:
        self.warnings: dict[str, None] = {}
        self._video = video

    def debug(self, message: str) -> None: ...

    info = error = debug

    def warning(self, message: str) -> None:
        # Without the video's name, so that equal warnings of several videos can be counted.
        text = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", message)).strip().replace(f"{self._video}: ", "")
        self.warnings[text.replace(self._video, "ID")] = None


def _plain(text: str) -> str:
    """Return the first line of a yt-dlp message, at most 200 characters, without colour codes and the prefix ERROR."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[0]
    return re.sub(r"^ERROR: (\[[^\]]*\] )?(\S+: )?", "", text)[:200]
