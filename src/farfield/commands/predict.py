"""`farfield predict`: predict the actions in videos."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from farfield.checkpoints.content_hash import network_hash
from farfield.commands.console import quiet_libraries, report_skipped_files
from farfield.commands.timeline_options import timeline_options
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.video_inputs import find_records
from farfield.errors import FarfieldError, VideoError
from farfield.inference.embeddings import check_parquet
from farfield.inference.predict import PredictOptions
from farfield.inference.predict_live import LivePrediction, predict_live
from farfield.inference.predict_videos import predict_videos
from farfield.inference.prediction_schema import Prediction, RankedLabel
from farfield.inference.results_folder import FEATURE_FILES, check_extras, open_results
from farfield.inference.tables_and_subtitles import SUBTITLES, Format, as_csv, as_srt, as_table, as_vtt, check_format
from farfield.parallel import Engine
from farfield.precision import Precision
from farfield.progress import ProgressBar, VideoBars
from farfield.reports.overlapping_labels import NO_CLASS
from farfield.scoring.load import load_model
from farfield.timelines.options import Overlaps, TimelineOptions
from farfield.video.decoder_names import Decoder


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
    smooth_seconds: float = TimelineOptions.smooth_seconds,
    min_seconds: float | Mapping[str, float] = TimelineOptions.min_seconds,
    threshold: float = TimelineOptions.threshold,
    hysteresis: float = TimelineOptions.hysteresis,
    max_gap_seconds: float | Mapping[str, float] = TimelineOptions.max_gap_seconds,
    overlaps: Overlaps = TimelineOptions.overlaps,
    num_levels: int = TimelineOptions.num_levels,
    soft_nms_sigma: float = TimelineOptions.soft_nms_sigma,
    min_score: float = TimelineOptions.min_score,
    format: Format = "table",
    json: bool = False,
    out: str | None = None,
    write: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    decoder: Decoder = "pyav",
    fps: float | None = None,
    view_batch_size: int = 8,
    num_workers: int = 0,
    seconds_per_video: float = 3600,
    engine: Engine = "local",
    list_left_out: bool = False,
) -> int:
    """Predict the actions in videos: the most probable classes of each video, or of its segments with --timeline.

    If a video cannot be decoded, the command prints its name and the reason, still predicts the other videos, and exits
    with status 1. With --out, running the same command again resumes where it was stopped.

    Args:
        videos: files, folders, patterns, manifests (.csv; of each row its segment is predicted), or - for a list of
            them on standard input. With --fps, folders of numbered pictures are videos, too.
        checkpoint: a .ckpt file, or a folder or file written by `farfield export`; network, labels, sampling and
            normalisation come from it.
        top_k: number of classes to print; of a multilabel network, all others at their threshold are printed, too.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for 1 with --timeline, and for the checkpoint's own setting otherwise.
        hop: score clips that start every `hop` frames and together cover the whole video, instead of num_clips clips.
        timeline: slide windows over each video, however long, and print its segments: start, end and class.
        live: watch one camera (/dev/video0) or stream (a URL), and print predictions until it ends or Ctrl-C.
        window_seconds: length of a window; null for the length of the network's clips.
        hop_seconds: time from the start of one window to the next; null for half a window.
        smooth_seconds: average probabilities over this duration around each moment.
        min_seconds: segments shorter than this are merged into a neighbouring segment; those of a multilabel network
            are left out. One number, or one for each class, as '{run: 1.0, wave: 0.5}', 0 for the others.
        threshold: moments whose most probable class has a probability below this belong to no segment. For a multi_head
            network, the probability is that of the most probable combination, the product of its classes'. For a
            multilabel network, the probability from which on a moment belongs to a class. 0 for the checkpoint's own
            thresholds, chosen on timelines or, in a multilabel task, on videos.
        hysteresis: a segment starts at the threshold, and lasts while the probability stays at or above this share of
            it; 1 for a single threshold, about 0.6 against segments that are cut to pieces.
        max_gap_seconds: gaps of a class up to this length are closed; one number, or one for each class, as in
            min_seconds.
        overlaps: of a multilabel network, how to treat several candidates for the same action, found at several levels
            up to the threshold: none (only those at the threshold), soft_nms (all, ranked by a score) or merge (their
            average).
        num_levels: number of levels for --overlaps soft_nms and merge.
        soft_nms_sigma: width of soft_nms; the smaller, the lower are the scores of segments that overlap better ones.
        min_score: segments whose score is below this are left out.
        format: output format: table, json (one list), jsonl (one line with an object per video, printed when the video
            is finished), csv, srt or vtt.
        json: the same as --format json.
        out: folder to keep the predictions in: predictions.jsonl, and the files that `write` names.
        write: more files to write into `out`, as "csv,mp4": csv, srt and vtt (subtitles), mp4 (copies of the videos
            with their labels, without sound), safetensors and parquet (features before the classifier, for retrieval).
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: number format: float32, bfloat16 (about twice as fast where the processor supports it; scores
            change in the third digit), float16 (GPUs).
        decoder: pyav or decord.
        fps: frame rate of videos that are folders of numbered pictures, where a manifest has none; null reads video
            files, and the folders for which a manifest has the frame rate.
        view_batch_size: views per forward pass; bounds memory.
        num_workers: number of worker processes, with one thread each; 0 to predict in this process.
        seconds_per_video: maximum time in seconds for one video in a worker process.
        engine: "local", or "ray" for a Ray cluster whose machines see the same files.
        list_left_out: print the name of every file that is skipped in a folder, with the reason.
    """
    quiet_libraries()
    chosen: Format = "json" if json else format
    extras = [name.strip() for name in write.split(",")] if write else []
    of_timeline = {
        "smooth_seconds": smooth_seconds,
        "min_seconds": min_seconds,
        "threshold": threshold,
        "hysteresis": hysteresis,
        "max_gap_seconds": max_gap_seconds,
        "overlaps": overlaps,
        "num_levels": num_levels,
        "soft_nms_sigma": soft_nms_sigma,
        "min_score": min_score,
    }
    if live:
        _check_live(
            videos,
            chosen,
            **{name: value != getattr(TimelineOptions, name) for name, value in of_timeline.items()},
            num_clips=num_clips,
            num_crops=num_crops,
            hop=hop,
            timeline=timeline,
            out=out,
            write=write,
            num_workers=num_workers,
            engine=engine != "local",
            decoder=decoder != "pyav",
            fps=fps,
        )
        model = load_model(checkpoint, device=device, precision=precision)
        windows = {"hop_seconds": hop_seconds, "window_seconds": window_seconds}
        return _print_live(predict_live(videos[0], model, top_k=top_k, **windows), chosen)
    check_format(chosen, timeline=timeline)
    check_extras(extras, timeline=timeline)
    if extras and out is None:
        raise FarfieldError(f"write is {extras}, but out is missing. Give --out FOLDER.")
    if "parquet" in extras:
        check_parquet()
    options = PredictOptions(
        top_k,
        num_clips,
        num_crops,
        hop,
        timeline_options(timeline, hop_seconds=hop_seconds, window_seconds=window_seconds, **of_timeline),
        any(extra in FEATURE_FILES for extra in extras),
        view_batch_size,
        decoder,
        fps,
    )

    def settings() -> dict[str, Any]:
        return options.settings() | {"precision": precision, "weights": network_hash(checkpoint)}

    skipped = SkippedFiles(list_left_out)
    records = find_records(videos, out=out, skipped=skipped, frame_folders=fps is not None)
    report_skipped_files(skipped)
    if chosen in SUBTITLES and len(records) > 1:
        raise FarfieldError(
            f"format is {chosen}, which prints the subtitles of one video, but {len(records)} videos are given. Give "
            f"--out FOLDER --write {chosen}, to write a file for each video."
        )
    with nullcontext() if out is None else open_results(out, settings(), extras) as results:
        done = {each: results.prediction(each) for each in records if results is not None and results.is_done(each)}
        _print_each(done.values(), chosen)
        waiting = [record for record in records if record not in done]
        with VideoBars("predict", len(records), len(done)) as bars:
            for record, prediction in predict_videos(
                waiting,
                options,
                checkpoint=checkpoint,
                device=device,
                precision=precision,
                num_workers=num_workers,
                engine=engine,
                seconds_per_video=seconds_per_video,
                on_progress=bars.windows,
            ):
                done[record] = prediction if results is None else results.add(prediction, fps=record.fps)
                bars.video()
                _print_each([done[record]], chosen)
        if results is not None:
            results.finish(records)
    _print_all([done[record] for record in records], chosen, timeline=timeline)
    failures = [prediction for prediction in done.values() if prediction.error is not None]
    for failure in failures:
        print(f"farfield predict: {failure.title}: {failure.error}", file=sys.stderr)
    return 1 if failures else 0


def _check_live(videos: list[str], format: Format, **others: object) -> None:
    surplus = [name for name, given in others.items() if given]
    if surplus:
        raise FarfieldError(f"--live and --{surplus[0]} cannot be combined. Leave out --{surplus[0]}.")
    if len(videos) != 1:
        raise FarfieldError(f"--live watches one camera or stream, but {len(videos)} are given. Give one.")
    if format not in ("table", "jsonl"):
        raise FarfieldError(f"format is {format!r}, but --live prints a table or jsonl only. Give --format jsonl.")


def _print_live(predictions: Iterable[LivePrediction], format: Format) -> int:
    try:
        for each in predictions:
            if format == "jsonl":
                print(json_format.dumps(asdict(each)), flush=True)
            else:
                print(f"{each.end_seconds:9.2f} s  {_live_text(each)}", flush=True)
    except VideoError as error:
        print(f"farfield predict: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the way to end it
        pass
    return 0


def _live_text(prediction: LivePrediction) -> str:
    """Format a live ranking. Of a multilabel network, the classes below their thresholds follow in parentheses."""

    def listed(ranking: list[RankedLabel]) -> str:
        return "  ".join(f"{ranked.label} {100 * ranked.probability:.0f}%" for ranked in ranking)

    if prediction.task != "multilabel":
        return listed(prediction.ranking)
    above = [each for each in prediction.ranking if each.above_threshold]
    below = [each for each in prediction.ranking if not each.above_threshold]
    return (listed(above) or NO_CLASS) + (f"  ({listed(below)})" if below else "")


def _print_each(predictions: Iterable[Prediction], format: Format) -> None:
    """Print predictions if the format (table or jsonl) prints each video as soon as it is finished."""
    for prediction in predictions:
        if format == "jsonl":
            ProgressBar.write(json_format.dumps(prediction.to_dict()))
        elif format == "table" and prediction.ranking:
            ProgressBar.write(as_table(prediction))


def _print_all(predictions: list[Prediction], format: Format, *, timeline: bool) -> None:
    """Print the predictions of all videos if the format (json, csv, srt or vtt) is printed at the end."""
    if format == "json":
        print(json_format.dumps([prediction.to_dict() for prediction in predictions], indent=2))
    elif format == "csv":
        print(as_csv(predictions, timeline=timeline), end="")
    elif format in SUBTITLES and predictions and predictions[0].ranking:
        print({"srt": as_srt, "vtt": as_vtt}[format](predictions[0]), end="")
