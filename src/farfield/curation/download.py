"""Download Kinetics clips with yt-dlp, and record why clips failed.

Many of the videos are no longer online. Clips that are already on disk are not fetched again, and clips that failed
permanently are not requested again by default.
"""

from __future__ import annotations

import csv
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farfield.atomic_write import atomic_write
from farfield.curation.encoding import Encoding
from farfield.curation.fetch_clip import PERMANENT_REASONS, Fetched, FetchJob, fetch
from farfield.curation.formats.kinetics import read_annotations
from farfield.curation.javascript_runtime import DEFAULT, runtime_options, why_unavailable
from farfield.errors import FarfieldError
from farfield.parallel import for_each
from farfield.progress import ProgressBar

log = logging.getLogger("farfield")

YOUTUBE = "https://www.youtube.com/watch?v={id}"


@dataclass
class Downloaded:
    """Result of downloading a list of clips.

    Attributes:
        fetched: number of clips fetched by this call.
        already_there: number of clips that were on disk before this call.
        known_to_be_gone: number of clips that were not requested, because they failed permanently in an earlier call.
        failures: reason for each failed clip, by clip name, including clips that failed in earlier calls.
        warnings: for each warning of yt-dlp, the number of clips that caused it.
    """

    fetched: int = 0
    already_there: int = 0
    known_to_be_gone: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)

    def reasons(self) -> dict[str, int]:
        """Count the failures by reason, most frequent first."""
        return dict(Counter(self.failures.values()).most_common())

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain types, for JSON."""
        about = {"fetched": self.fetched, "already_there": self.already_there, "failed": len(self.failures)}
        return about | {"failures_by_reason": self.reasons(), "warnings": self.warnings}


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
    """Download the clips of Kinetics' CSV with yt-dlp, and write them to out/<label>/<id>_<start>_<end>.mp4.

    Clips are encoded as `data prepare` encodes videos. Run the same command again to continue an interrupted run.
    failures.csv lists each clip that could not be fetched, with the reason. Clips that failed permanently are not
    requested again, unless retry is set. Each warning of yt-dlp is logged once.

    Args:
        annotations: Kinetics' CSV, for example train.csv, or a subset of its rows, written by `data subset`.
        out: output folder for the clips and failures.csv.
        clip_seconds: length of each clip, from its start in the CSV.
        encoding: settings of the encoder.
        num_workers: number of videos fetched in parallel.
        bytes_per_second: rate limit of each of the num_workers parallel downloads; None for no limit.
        pause_seconds: time that a worker waits before each video, and between two requests for one video.
        retry: also request the clips that failed permanently in earlier calls.
        seconds_per_video: time limit for one video. A video that takes longer fails, and the next call tries it again.
        url: URL of a video, in which {id} stands for the YouTube id.
        js_runtime: JavaScript runtime for YouTube's scripts: deno (installed by farfield[download]), node (22 or
            newer), bun or quickjs; or name:path if the runtime is not on PATH.
        progress: show a progress bar on standard error.

    Raises:
        FarfieldError: if yt-dlp is not installed, the annotations or the runtime are invalid, or the site refuses all
            requests.
    """
    try:
        import yt_dlp  # noqa: F401
    except ImportError as error:
        raise FarfieldError("yt-dlp is not installed. Install it with pip install 'farfield[download]'.") from error
    if "{id}" not in url:
        raise FarfieldError(f"url is {url!r}; it must contain {{id}}, which stands for the video's YouTube id.")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be created: {error.strerror}. Give another output folder (out)."
        ) from error
    options = {
        "format": "bv*[height<=480][ext=mp4]/bv*[height<=480]/b[height<=480]/bv*/b",  # video only: nothing to merge
        "ratelimit": bytes_per_second,
        "sleep_interval_requests": pause_seconds,
        "retries": 3,
        "quiet": True,
        "noprogress": True,
        "noplaylist": True,
        "js_runtimes": runtime_options(js_runtime),
    }
    failures_file = folder / "failures.csv"
    made = Downloaded(failures=_read_failures(failures_file))
    jobs = []
    for (video, start), label in read_annotations(Path(annotations)):
        end = start + clip_seconds
        name = f"{_safe_file_name(video)}_{start:06d}_{round(end):06d}"
        target = folder / _safe_file_name(label) / f"{name}.mp4"
        if target.is_file():
            made.already_there += 1
            made.failures.pop(name, None)
        elif not retry and made.failures.get(name) in PERMANENT_REASONS:
            made.known_to_be_gone += 1
        else:
            jobs.append(FetchJob(video, url.format(id=video), target, start, end, options, encoding, pause_seconds))
    if jobs and re.search(r"//[^/]*youtu", url) and (lack := why_unavailable(js_runtime)):
        log.warning("%s", lack)
    running = for_each(fetch, jobs, num_workers=num_workers, seconds_per_job=seconds_per_video)
    try:
        _collect(running, len(jobs), made, failures_file, progress)
    finally:
        _write_failures(failures_file, made.failures)
    return made


def _collect(
    running: Iterator[tuple[FetchJob, Fetched | str]], total: int, made: Downloaded, failures_file: Path, progress: bool
) -> None:
    """Add the results to `made` and to failures.csv as they arrive, and log each new warning once."""
    with ProgressBar(running, "download", total, unit="clip", disable=not progress) as bar:
        for job, result in bar:
            if isinstance(result, str):  # a timeout or a crash
                result = Fetched(result, ())
            for warning in result.warnings:
                if warning not in made.warnings:
                    with ProgressBar.external_write_mode(sys.stderr):
                        log.warning("yt-dlp: %s", warning)
                made.warnings[warning] += 1
            if result.reason is not None:
                made.failures[job.target.stem] = result.reason
                _write_failures(failures_file, made.failures)  # at once, since the run may be killed
                bar.set_postfix(failed=len(made.failures))
            else:
                made.failures.pop(job.target.stem, None)
                made.fetched += 1


def _safe_file_name(name: str) -> str:
    """Make a value of the CSV a safe file name: replace path separators, and remove leading dots."""
    return re.sub(r"[/\\\0]", "_", name).lstrip(".") or "_"


def _read_failures(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["clip"]: row["reason"] for row in csv.DictReader(file)}


def _write_failures(path: Path, failures: dict[str, str]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "reason"])
        writer.writerows(sorted(failures.items()))
