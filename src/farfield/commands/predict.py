"""`farfield predict`: predict the actions in videos."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from farfield.commands.console import quiet_libraries, report_skipped_files
from farfield.commands.timeline_options import timeline_options
from farfield.curation.folder_scan import SkippedFiles
from farfield.errors import FarfieldError
from farfield.inference.alarm_options import AlarmOptions, ClipOptions
from farfield.inference.camera_options import CameraOptions, Reconnect
from farfield.inference.output_formats import SUBTITLES, Format, check_format
from farfield.parallel import Engine
from farfield.precision import Precision
from farfield.timelines.cells import WindowsAggregation
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
    windows_aggregation: WindowsAggregation = TimelineOptions.windows_aggregation,
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
    reconnect: Reconnect = CameraOptions.reconnect,
    reconnect_seconds: float = CameraOptions.reconnect_seconds,
    max_reconnect_seconds: float = CameraOptions.max_reconnect_seconds,
    alarms: str | None = None,
    alarm_labels: list[str] | None = None,
    alarm_gap_seconds: float = AlarmOptions.gap_seconds,
    clips: str | None = None,
    clip_seconds_before: float = ClipOptions.seconds_before,
    clip_seconds_after: float = ClipOptions.seconds_after,
    max_clip_seconds: float = ClipOptions.max_seconds,
) -> int:
    """Predict the actions in videos: the most probable classes of each video, or of its segments with --timeline.

    If a video cannot be decoded, the command prints its name and the reason, predicts the other videos, and exits with
    status 1. With --out, an interrupted command resumes when it is run again.

    Args:
        videos: files, folders, patterns, manifests (.csv; the segment of each row is predicted), or "-" to read these
            arguments from standard input, one per line. With --fps, folders of numbered pictures are videos, too. With
            --live, the cameras and streams to watch.
        checkpoint: a .ckpt file, a folder or file written by `farfield export`, or the folder or name of a Hugging
            Face video encoder (docs/guides/encoders.md). It defines network, labels, sampling and normalisation.
        top_k: number of classes to print for each video. For a multilabel network, all further classes that reach their
            threshold are printed, too.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for 1 with --timeline, and for the checkpoint's own setting otherwise.
        hop: score clips that start every `hop` frames, from the start to the end of the video, instead of num_clips
            clips.
        timeline: slide windows over each video, which may be of any length, and print its segments: start, end and
            class.
        live: watch cameras (/dev/video0) or streams (URLs), several in one process, and print predictions until the
            last one ends or Ctrl-C. A camera may be given a name, e.g. front=rtsp://...
        window_seconds: length of a window; null for the length of the network's clips.
        hop_seconds: time from the start of one window to the next; null for half a window.
        windows_aggregation: how the probabilities of a moment are computed from the windows that overlap it: mean
            (their average) or nearest (those of the window whose middle is nearest). For networks trained with
            data.untrimmed, nearest gives sharper starts and ends.
        smooth_seconds: average probabilities over this duration around each moment.
        min_seconds: minimum length of a segment. Shorter segments are merged into a neighbouring segment or, for a
            multilabel network, left out. One number, or a number for each class, e.g. '{run: 1.0, wave: 0.5}', with 0
            for classes that are not named.
        threshold: a moment belongs to no segment if the probability of its most probable class is below this. For a
            multi_head network, this applies to the most probable combination of one class from each head, whose
            probability is the product of the classes' probabilities. For a multilabel network, a moment belongs to
            every class whose probability reaches the threshold. 0 selects the thresholds in the checkpoint (see
            `farfield test --choose_threshold`): the thresholds for timelines or, for a multilabel network without them,
            the thresholds for videos. If the checkpoint has no such thresholds, a multilabel network uses 0.5, and any
            other network uses no threshold.
        hysteresis: a segment (with --live, an alarm) starts at the threshold, and lasts while the probability stays at
            or above this share of the threshold. 1 for a single threshold; about 0.6 avoids fragmented segments.
        max_gap_seconds: gaps up to this length between two segments of a class are closed. One number, or a number for
            each class, as in min_seconds.
        overlaps: how a multilabel network's segments are found. With "none", they are found at the threshold. With
            "soft_nms" and "merge", candidates are also found at lower thresholds (levels), and each gets a score: the
            mean probability inside minus the mean probability just before and after. "soft_nms" keeps all candidates,
            and lowers the scores of those that overlap a better one; "merge" averages candidates that overlap.
        num_levels: number of levels, including the threshold itself, for --overlaps soft_nms and merge.
        soft_nms_sigma: width sigma of Soft-NMS; smaller values lower the scores of overlapping segments more.
        min_score: leave out segments whose score, from 0 to 1, is below this. With --overlaps none, a segment's score
            is its average probability.
        format: output format: table, json (one list), jsonl (one line with an object per video, printed when the video
            is finished), csv, srt or vtt.
        json: the same as --format json; with --live, as --format jsonl.
        out: output folder for predictions.jsonl and the files that --write adds.
        write: formats of further files in the folder --out, e.g. "csv,mp4": csv; srt and vtt (subtitles); mp4 (copies
            of the videos with their labels, without sound); safetensors and parquet (features before the classifier,
            for retrieval); labelstudio, cvat, fiftyone and eaf (folders of files that Label Studio, CVAT, FiftyOne and
            ELAN open, to correct the predictions there).
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: number format: float32, bfloat16 (about twice as fast where the processor supports it; scores change
            in the third digit), float16 (for GPUs).
        decoder: pyav or decord.
        fps: frame rate of folders of numbered pictures for which no manifest gives a frame rate; null if there are no
            such folders.
        view_batch_size: views per forward pass; bounds memory.
        num_workers: number of worker processes, with one thread each; 0 to predict in this process.
        seconds_per_video: maximum time in seconds for one video in a worker process.
        engine: "local", or "ray" for a Ray cluster, whose machines must have the files at the same paths.
        list_left_out: print the name of every file that is skipped in a folder, with the reason.
        reconnect: when --live opens a stream again: auto (after an error, or the end of a live stream), always (also
            after the end of a recording) or never.
        reconnect_seconds: waiting time before the first attempt to open a stream again. It doubles with each further
            attempt.
        max_reconnect_seconds: maximum waiting time between attempts.
        alarms: with --live, file to append the alarms to; "-" prints them instead of predictions. Each alarm gives
            several lines, each a JSON object: one when it starts, one when it ends and, with --clips, one when its clip
            is finished (docs/guides/untrimmed_cameras.md). A network that is not multilabel needs --threshold, or
            thresholds chosen on timelines.
        alarm_labels: classes that start alarms, e.g. '[falling, fighting]'; null for all.
        alarm_gap_seconds: an alarm ends when the probability of its class has been below hysteresis x threshold for
            longer than this.
        clips: folder for a video clip of each alarm, cut from the stream without encoding it again; null for no clips.
        clip_seconds_before: seconds of video that an alarm's clip includes before the start of the alarm.
        clip_seconds_after: seconds of video that an alarm's clip includes after the end of the alarm.
        max_clip_seconds: maximum length of an alarm's clip, including the seconds before and after the alarm.
    """
    # Imported late, because they import PyTorch: --help answers without it.
    from farfield.checkpoints.content_hash import network_hash
    from farfield.commands.print_predictions import print_all, print_each
    from farfield.commands.watch_cameras import check_live, watch
    from farfield.curation.video_inputs import find_records
    from farfield.inference.embeddings import check_parquet
    from farfield.inference.preannotation.tools import TOOLS, check_annotatable
    from farfield.inference.predict import PredictOptions
    from farfield.inference.predict_videos import predict_videos
    from farfield.inference.results_folder import FEATURE_FILES, check_extras, open_results
    from farfield.progress import VideoBars
    from farfield.scoring.load import load_model

    quiet_libraries()
    chosen: Format = format if not json else "jsonl" if live else "json"
    extras = [name.strip() for name in write.split(",")] if write else []
    of_timeline = {
        "windows_aggregation": windows_aggregation,
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
        check_live(
            chosen,
            alarms=alarms is not None,
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
            alarm_labels=alarm_labels,
            clips=clips,
        )
        cameras = CameraOptions(
            hop_seconds,
            window_seconds,
            reconnect=reconnect,
            reconnect_seconds=reconnect_seconds,
            max_reconnect_seconds=max_reconnect_seconds,
        )
        watched = None if alarms is None else AlarmOptions(threshold, hysteresis, alarm_gap_seconds, alarm_labels)
        cut = clips and ClipOptions(Path(clips), clip_seconds_before, clip_seconds_after, max_clip_seconds)
        return watch(
            videos,
            load_model(checkpoint, device=device, precision=precision),
            chosen,
            alarms_file=alarms,
            top_k=top_k,
            view_batch_size=view_batch_size,
            options=cameras,
            alarms=watched,
            clips=cut or None,
        )
    if alarms is not None or clips is not None:
        raise FarfieldError("--alarms and --clips only apply with --live. Add --live, or leave these options out.")
    check_format(chosen, timeline=timeline)
    check_extras(extras, timeline=timeline)
    if extras and out is None:
        raise FarfieldError(f"--write is {extras}, but --out is missing. Give --out FOLDER.")
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
    labels: list[str] = []
    if any(extra in TOOLS for extra in extras):
        labels = load_model(checkpoint, device="cpu").labels
        check_annotatable(extras, [record.path for record in records], labels)
    with nullcontext() if out is None else open_results(out, settings(), extras) as results:
        done = {each: results.prediction(each) for each in records if results is not None and results.is_done(each)}
        print_each(done.values(), chosen)
        waiting = [record for record in records if record not in done]
        shows_views = chosen == "table" and len(records) == 1 and sys.stderr.isatty()
        slides = timeline or hop is not None
        part = "window" if slides else "view"
        with VideoBars("predict", len(records), len(done), part) as bars:
            for record, prediction in predict_videos(
                waiting,
                options,
                checkpoint=checkpoint,
                device=device,
                precision=precision,
                num_workers=num_workers,
                engine=engine,
                seconds_per_video=seconds_per_video,
                on_progress=bars.parts if slides or shows_views else None,
            ):
                done[record] = prediction if results is None else results.add(prediction, fps=record.fps)
                bars.video()
                print_each([done[record]], chosen)
        if results is not None:
            results.finish(records, labels)
    print_all([done[record] for record in records], chosen, timeline=timeline)
    failures = [prediction for prediction in done.values() if prediction.error is not None]
    for failure in failures:
        print(f"farfield predict: {failure.title}: {failure.error}", file=sys.stderr)
    return 1 if failures else 0
