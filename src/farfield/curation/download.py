"""Kinetics' videos from where they are: yt-dlp fetches, the annotated segment is cut out, failures are kept by reason.

Many videos are gone. What has been fetched is not fetched again, and what is gone for good is not asked for again.
"""

from __future__ import annotations

import csv
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from farfield.atomic_write import atomic_write
from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.index import kinetics_annotations
from farfield.curation.javascript_runtime import DEFAULT, runtime_options, why_unavailable
from farfield.curation.transcode import Encoding, transcode
from farfield.errors import FarfieldError, VideoError
from farfield.parallel import for_each

log = logging.getLogger("farfield")

YOUTUBE = "https://www.youtube.com/watch?v={id}"

REASONS = {  # what yt-dlp says, to what it means; the first that is found
    r"private video|video is private": "the video is private",
    r"confirm your age|age.restricted": "it asks for an account that shows its owner's age",
    r"has been removed|was removed": "the video was removed",
    r"account .*terminated": "the account of who uploaded it was closed",
    r"copyright": "it was taken down for copyright",
    r"in your country": "it is not shown in this country",
    r"video (is )?unavailable|video is not available|video is no longer available": "the video is unavailable",
    r"http error (404|410)\b": "there is nothing at its address",
}
"""Reasons that stay true: such a video is not asked for again."""

BLOCKED = r"http error 429\b|not a bot|rate-limited|too many requests"
"""What shows that the site refuses everything for now."""


@dataclass(frozen=True)
class Fetch:
    """A clip to be fetched.

    Attributes:
        id: the video's.
        url: where it is.
        target: the file to write.
        start_seconds: where the clip begins in the video.
        end_seconds: where it ends.
        options: yt-dlp's.
        encoding: how the clip is stored.
        pause_seconds: before it is asked for.
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
    """What came of a clip.

    Attributes:
        reason: why it cannot be had; None where it is there.
        warnings: yt-dlp's, each once.
    """

    reason: str | None
    warnings: tuple[str, ...]


@dataclass
class Downloaded:
    """What came of a list.

    Attributes:
        fetched: clips fetched now.
        already_there: clips fetched before.
        known_to_be_gone: clips not asked for, since an earlier call found their videos gone.
        failures: clip to reason, those of earlier calls included.
        warnings: what yt-dlp warned of, to how many clips it warned of it for.
    """

    fetched: int = 0
    already_there: int = 0
    known_to_be_gone: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)

    def reasons(self) -> dict[str, int]:
        """How often clips failed for each reason, the most frequent first."""
        return dict(Counter(self.failures.values()).most_common())


def download(
    annotations: str | Path,
    out: str | Path,
    *,
    clip_seconds: float = 10,
    encoding: Encoding = Encoding(),  # noqa: B008  # frozen
    num_workers: int = 2,
    bytes_per_second: int | None = None,
    pause_seconds: float = 1.0,
    retry: bool = False,
    seconds_per_video: float = 600,
    url: str = YOUTUBE,
    js_runtime: str = DEFAULT,
    progress: bool = True,
) -> Downloaded:
    """Fetches the clips of Kinetics' CSV as out/label/<id>_<start>_<end>.mp4.

    What yt-dlp warns of goes to the log, each warning once; what it lacks for YouTube, before the first clip.

    Args:
        annotations: Kinetics' CSV.
        out: folder to write, with failures.csv.
        clip_seconds: length of a clip from its start.
        encoding: how clips are stored.
        num_workers: videos at once.
        bytes_per_second: of each; None for no limit.
        pause_seconds: before each video that a worker asks for, and between its requests.
        retry: ask again for what earlier calls found gone.
        seconds_per_video: a video that takes longer is given up, until the next call.
        url: where a video is; {id} stands for its name.
        js_runtime: what runs YouTube's scripts: deno, node, bun or quickjs, or name:path.
        progress: show a bar on standard error.

    Raises:
        FarfieldError: where yt-dlp is not installed, the list is none, the runtime is unknown, or the site refuses
            everything.
    """
    try:
        import yt_dlp  # noqa: F401
    except ImportError as error:
        raise FarfieldError("yt-dlp is not installed: pip install 'farfield[download]'.") from error
    if "{id}" not in url:
        raise FarfieldError(f"url is {url!r}; it must contain {{id}}, which stands for the video's name.")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{folder} cannot be made: {error.strerror}.") from error
    options = {
        "format": "bv*[height<=480][ext=mp4]/bv*[height<=480]/b[height<=480]/bv*/b",  # pictures only: no merging
        "ratelimit": bytes_per_second,
        "sleep_interval_requests": pause_seconds,
        "retries": 3,
        "quiet": True,
        "noprogress": True,
        "noplaylist": True,
        "js_runtimes": runtime_options(js_runtime),
    }
    made = Downloaded(failures=_known_failures(folder / "failures.csv"))
    jobs = []
    for (video, start), label in kinetics_annotations(Path(annotations)):
        end = start + clip_seconds
        name = f"{_safe(video)}_{start:06d}_{round(end):06d}"
        target = folder / _safe(label) / f"{name}.mp4"
        if target.is_file():
            made.already_there += 1
            made.failures.pop(name, None)
        elif not retry and made.failures.get(name) in REASONS.values():
            made.known_to_be_gone += 1
        else:
            jobs.append(Fetch(video, url.format(id=video), target, start, end, options, encoding, pause_seconds))
    if jobs and re.search(r"//[^/]*youtu", url) and (lack := why_unavailable(js_runtime)):
        log.warning("%s", lack)
    try:
        running = for_each(fetch, jobs, num_workers=num_workers, seconds_per_job=seconds_per_video)
        with tqdm(running, "download", len(jobs), unit="clip", disable=not progress) as bar:
            for job, result in bar:
                if isinstance(result, str):  # it took too long, or crashed
                    result = Fetched(result, ())
                for warning in result.warnings:
                    if warning not in made.warnings:
                        with tqdm.external_write_mode(sys.stderr):
                            log.warning("yt-dlp: %s", warning)
                    made.warnings[warning] += 1
                if result.reason is not None:
                    made.failures[job.target.stem] = result.reason
                    _write_failures(folder / "failures.csv", made.failures)  # now: a run may be killed
                    bar.set_postfix(failed=len(made.failures))
                else:
                    made.failures.pop(job.target.stem, None)
                    made.fetched += 1
    finally:
        _write_failures(folder / "failures.csv", made.failures)
    return made


def fetch(job: Fetch) -> Fetched:
    """In a worker: fetches a video and cuts the clip out of it.

    Raises:
        FarfieldError: where the site refuses everything.
    """
    messages = Messages(job.id)
    try:
        _fetch(job, messages)
    except VideoError as error:
        return Fetched(error.reason, tuple(messages.warnings))
    return Fetched(None, tuple(messages.warnings))


def _fetch(job: Fetch, messages: Messages) -> None:
    import yt_dlp

    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(job.url, f"{job.target.parent.name} cannot be made: {error.strerror}") from error
    time.sleep(job.pause_seconds)
    with tempfile.TemporaryDirectory() as folder:
        options = job.options | {"outtmpl": str(Path(folder, "video.%(ext)s")), "logger": messages}
        try:
            with yt_dlp.YoutubeDL(options) as downloader:
                downloader.download([job.url])
        except yt_dlp.utils.DownloadError as error:
            text = str(error)
            if re.search(BLOCKED, _plain(text).lower()):
                raise FarfieldError(
                    f"{job.url}: {_plain(text)} The site refuses for now; the same command goes on later. Fewer "
                    "workers and a longer pause_seconds help."
                ) from error
            raise VideoError(job.url, reason_for(text)) from error
        files = [path for path in Path(folder).iterdir() if has_video_suffix(path)]
        if not files:
            raise VideoError(job.url, "nothing was fetched")
        start, end = job.start_seconds, job.end_seconds
        transcode(files[0], job.target, job.encoding, start_seconds=start, end_seconds=end, name=job.url)


def reason_for(text: str) -> str:
    """What an error of yt-dlp means, in few words that can be counted."""
    for sign, reason in REASONS.items():
        if re.search(sign, _plain(text).lower()):
            return reason
    return _plain(text)


class Messages:
    """yt-dlp's log: warnings are kept, errors are raised as well, and the rest goes nowhere."""

    def __init__(self, video: str) -> None:
        self.warnings: dict[str, None] = {}
        self._video = video

    def debug(self, message: str) -> None: ...

    info = error = debug

    def warning(self, message: str) -> None:
        # Without the video's name, so that the same warning of others counts as the same.
        text = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", message)).strip().replace(f"{self._video}: ", "")
        self.warnings[text.replace(self._video, "ID")] = None


def _plain(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[0]
    return re.sub(r"^ERROR: (\[[^\]]*\] )?(\S+: )?", "", text)[:200]


def _safe(name: str) -> str:
    """A name as that of a file: a row of a CSV must not write elsewhere."""
    return re.sub(r"[/\\\0]", "_", name).lstrip(".") or "_"


def _known_failures(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["clip"]: row["reason"] for row in csv.DictReader(file)}


def _write_failures(path: Path, failures: dict[str, str]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "reason"])
        writer.writerows(sorted(failures.items()))
