"""`farfield predict`: recognise actions in video files."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from farfield.checkpoints.content_hash import network_hash
from farfield.commands.console import quiet_libraries, report_skipped_files
from farfield.curation.folder_scan import SkippedFiles
from farfield.errors import FarfieldError, VideoError
from farfield.inference.embeddings import check_parquet
from farfield.inference.live_stream import live_windows
from farfield.inference.predict import rank
from farfield.inference.predict_videos import Question, ask_all
from farfield.inference.prediction_formats import (
    SUBTITLES,
    Answer,
    Format,
    as_csv,
    as_srt,
    as_table,
    as_vtt,
    check_format,
)
from farfield.inference.results_folder import FEATURE_FILES, check_extras, open_results
from farfield.inference.timeline import check_options
from farfield.inference.video_inputs import find_videos
from farfield.parallel import Engine
from farfield.precision import Precision
from farfield.scoring.aggregation import average_views
from farfield.scoring.load import InferenceModel, load_model
from farfield.scoring.score_views import score_views


def predict(
    videos: list[str],
    *,
    checkpoint: str,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    hop: int | None = None,
    timeline: bool = False,
    live: bool = False,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    smooth_seconds: float = 0.0,
    min_seconds: float = 0.0,
    threshold: float = 0.0,
    format: Format = "table",
    json: bool = False,
    out: str | None = None,
    write: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    view_batch_size: int = 8,
    num_workers: int = 0,
    seconds_per_video: float = 3600,
    engine: Engine = "local",
    list_left_out: bool = False,
) -> int:
    """Recognises actions in video files: the most probable classes of each, or with --timeline what happens when.

    A video that cannot be decoded is named with its reason, and the others are still predicted; the exit status is
    then 1. With --out, the same command goes on where it was stopped.

    Args:
        videos: files, folders, patterns, manifests (.csv), or - for a list of them on standard input.
        checkpoint: a .ckpt file, a folder or a file that `farfield export` wrote; network, labels, sampling and
            normalisation come from it.
        top_k: how many classes to print.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting, with a timeline for 1.
        hop: in place of num_clips, clips that start every so many frames and together cover the whole video.
        timeline: slide windows over each video, however long, and print segments in time.
        live: watch one camera (/dev/video0) or stream (a URL), and print what is seen until it ends or Ctrl-C.
        window_seconds: length of a window; null for the network's own.
        hop_seconds: from one window to the next; null for half a window.
        smooth_seconds: average probabilities over so much time around each moment.
        min_seconds: shorter segments join a neighbour.
        threshold: moments whose best class is less probable belong to no segment.
        format: what is printed: table, json (one list), jsonl (an object a line, as they are done), csv, srt or vtt.
        json: the same as --format json.
        out: folder to keep the answers in: predictions.jsonl, and what `write` names.
        write: what else to write into `out`, as "csv,mp4": csv, srt and vtt (subtitles), mp4 (copies of the videos with
            their labels, without sound), safetensors and parquet (what the classifier sees, for retrieval).
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: what to compute in: float32, bfloat16 (about twice as fast where the processor has it; scores change
            in the third digit), float16 (GPUs).
        view_batch_size: views that go through the network at once; bounds memory.
        num_workers: processes with one thread each; 0 for this process.
        seconds_per_video: with workers, a video that takes longer is given up.
        engine: "local", or "ray" for a cluster that sees the same files.
        list_left_out: name all that is passed over in folders, with the reason.
    """
    quiet_libraries()
    chosen: Format = "json" if json else format
    extras = [name.strip() for name in write.split(",")] if write else []
    if live:
        _check_live(
            videos,
            chosen,
            num_clips=num_clips,
            num_crops=num_crops,
            hop=hop,
            timeline=timeline,
            smooth_seconds=smooth_seconds,
            min_seconds=min_seconds,
            threshold=threshold,
            out=out,
            write=write,
            num_workers=num_workers,
            engine=engine != "local",
        )
        question = Question(top_k, windows={"hop_seconds": hop_seconds, "window_seconds": window_seconds})
        return _watch(videos[0], load_model(checkpoint, device=device, precision=precision), question, chosen)
    check_format(chosen, timeline=timeline)
    check_extras(extras, timeline=timeline)
    if extras and out is None:
        raise FarfieldError(f"write is {extras}, but out says nowhere. Give --out FOLDER.")
    if "parquet" in extras:
        check_parquet()
    question = Question(
        top_k,
        _views(timeline, num_clips=num_clips, num_crops=num_crops, hop=hop),
        _windows(
            timeline,
            num_crops=num_crops,
            window_seconds=window_seconds,
            hop_seconds=hop_seconds,
            smooth_seconds=smooth_seconds,
            min_seconds=min_seconds,
            threshold=threshold,
        ),
        any(extra in FEATURE_FILES for extra in extras),
        view_batch_size,
    )
    skipped = SkippedFiles(list_left_out)
    paths = find_videos(videos, out=out, skipped=skipped)
    report_skipped_files(skipped)
    if chosen in SUBTITLES and len(paths) > 1:
        raise FarfieldError(f"{len(paths)} videos make as many subtitle files: give --out FOLDER --write {chosen}.")
    folder = nullcontext() if out is None else open_results(out, _settings(question, checkpoint, precision), extras)
    with folder as results:
        answers = {path: results.answer(path) for path in paths if results is not None and results.answered(path)}
        _show(answers.values(), chosen)
        waiting = [path for path in paths if path not in answers]
        with _Bars(len(paths), len(answers)) as bars:
            for answer in ask_all(
                waiting,
                question,
                checkpoint=checkpoint,
                device=device,
                precision=precision,
                num_workers=num_workers,
                engine=engine,
                seconds_per_video=seconds_per_video,
                progress=bars.windows,
            ):
                answers[answer.path] = answer if results is None else results.add(answer)
                bars.video()
                _show([answers[answer.path]], chosen)
        if results is not None:
            results.finish(paths)
    _show_all([answers[path] for path in paths], chosen, timeline=timeline)
    failures = [answer for answer in answers.values() if answer.error is not None]
    for failure in failures:
        print(f"farfield predict: {failure.path}: {failure.error}", file=sys.stderr)
    return 1 if failures else 0


def _settings(question: Question, checkpoint: str, precision: Precision) -> dict[str, Any]:
    """All that answers depend on: of the checkpoint what is in it, wherever it lies."""
    settings = asdict(question) | {"precision": precision, "weights": network_hash(checkpoint)}
    del settings["view_batch_size"]
    return settings


def _views(timeline: bool, **given: int | None) -> dict[str, int]:
    views = {name: value for name, value in given.items() if value is not None}
    if not timeline:
        return views
    refused = sorted(views.keys() & {"num_clips", "hop"})
    if refused:
        raise FarfieldError(f"{refused[0]} is for rankings; a timeline has windows. Give --hop_seconds.")
    return {}


def _windows(timeline: bool, **given: float | None) -> dict[str, Any] | None:
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if timeline:
        check_options(**options)
        return options
    surplus = [name for name, value in options.items() if name != "num_crops" and value]
    if surplus:
        raise FarfieldError(f"{surplus[0]} is for timelines: give --timeline, too.")
    return None


def _check_live(videos: list[str], format: Format, **others: object) -> None:
    surplus = [name for name, given in others.items() if given]
    if surplus:
        raise FarfieldError(f"--live shows what is seen as it is seen, and takes no {surplus[0]}. Leave it out.")
    if len(videos) != 1:
        raise FarfieldError(f"--live watches one camera or stream; given are {len(videos)}.")
    if format not in ("table", "jsonl"):
        raise FarfieldError(f"--live prints a table or jsonl, a line at a time; format is {format!r}.")


def _watch(source: str, model: InferenceModel, question: Question, format: Format) -> int:
    try:
        with live_windows(source, model.clip, **question.windows or {}) as windows:
            for window in windows:
                scored = score_views(model, window.frames, batch_size=1)
                probabilities = average_views(scored.logits, 1)[0].cpu().numpy()
                ranking = rank(probabilities, model.labels, question.top_k)
                seen = {"start_seconds": window.start_seconds, "end_seconds": window.end_seconds}
                if format == "jsonl":
                    line = json_format.dumps(seen | {"ranking": [asdict(each) for each in ranking]})
                else:
                    best = "  ".join(f"{each.label} {100 * each.probability:.0f}%" for each in ranking)
                    line = f"{window.end_seconds:9.2f} s  {best}"
                print(line, flush=True)
    except VideoError as error:
        print(f"farfield predict: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the way to end it
        pass
    return 0


def _show(answers: Iterable[Answer], format: Format) -> None:
    """Prints what does not have to wait for the other answers."""
    for answer in answers:
        if format == "jsonl":
            tqdm.write(json_format.dumps(answer.as_dict()))
        elif format == "table" and answer.ranking:
            tqdm.write(as_table(answer))


def _show_all(answers: list[Answer], format: Format, *, timeline: bool) -> None:
    """Prints what is made of all answers."""
    if format == "json":
        print(json_format.dumps([answer.as_dict() for answer in answers], indent=2))
    elif format == "csv":
        print(as_csv(answers, timeline=timeline), end="")
    elif format in SUBTITLES and answers and answers[0].ranking:
        print({"srt": as_srt, "vtt": as_vtt}[format](answers[0]), end="")


class _Bars:
    """Progress on standard error: of the videos, and of the windows of a long one."""

    def __init__(self, total: int, done: int) -> None:
        self._videos = tqdm(desc="predict", total=total, initial=done, unit="video", disable=total == 1)
        self._windows: tqdm | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_windows()
        self._videos.close()

    def video(self) -> None:
        self._close_windows()
        self._videos.update()

    def windows(self, done: int, total: int) -> None:
        if self._windows is None:
            row = 0 if self._videos.disable else 1
            self._windows = tqdm(desc="windows", total=total, unit="window", leave=False, position=row, delay=1)
        self._windows.update(done - self._windows.n)

    def _close_windows(self) -> None:
        if self._windows is not None:
            self._windows.close()
            self._windows = None
