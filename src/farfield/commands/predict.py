"""`farfield predict`: recognise actions in video files."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError, VideoError
from farfield.inference import Prediction, find_videos
from farfield.inference import predict as predict_video
from farfield.inference.annotate import write_labelled_video
from farfield.models import load_model


def predict(
    videos: list[str],
    *,
    checkpoint: str,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    hop: int | None = None,
    device: str = "auto",
    json: bool = False,
    labelled_videos: str | None = None,
) -> int:
    """Recognises actions in video files, folders of them, or glob patterns.

    Prints the most probable classes of each video. A video that cannot be decoded is named with its reason, and the
    others are still predicted; the exit status is then 1.

    Args:
        videos: files, folders, patterns.
        checkpoint: a .ckpt file; network, labels, sampling and normalisation come from it.
        top_k: how many classes to print.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        hop: in place of num_clips, clips that start every so many frames and together cover the whole video.
        device: where to run: auto, cpu, cuda, cuda:1.
        json: print JSON: a list with one object per video, with "error" in place of "ranking" where it failed.
        labelled_videos: folder for copies of the videos with the labels written under the picture.
    """
    quiet_libraries()
    paths = find_videos(videos)
    targets = dict(zip(paths, _labelled_paths(labelled_videos, paths), strict=True)) if labelled_videos else {}
    model = load_model(checkpoint).to(_device(device))
    results: list[Prediction | VideoError] = []
    for path in tqdm(paths, desc="predict", unit="video", disable=len(paths) == 1):
        try:
            prediction = predict_video(path, model, top_k=top_k, num_clips=num_clips, num_crops=num_crops, hop=hop)
            if targets:
                write_labelled_video(prediction, targets[path])
            results.append(prediction)
        except VideoError as error:
            results.append(error)
    if json:
        print(json_format.dumps([_as_dict(result) for result in results], indent=2))
    else:
        print("\n".join(_table(r) for r in results if isinstance(r, Prediction)))
    failures = [result for result in results if isinstance(result, VideoError)]
    for failure in failures:
        print(f"farfield predict: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FarfieldError(f"device is {name!r}: {str(error).splitlines()[0]} Choose auto, cpu or cuda.") from error
    return device


def _labelled_paths(folder: str, videos: list[str]) -> list[Path]:
    """<folder>/<name>_labelled.mp4 for each video, with a number where several have the same name.

    Raises:
        FarfieldError: where that is one of the videos themselves.
    """
    stems: dict[str, int] = {}
    targets = []
    for video in videos:
        stem = Path(video).stem
        stems[stem] = stems.get(stem, 0) + 1
        number = f"_{stems[stem]}" if stems[stem] > 1 else ""
        targets.append(Path(folder, f"{stem}_labelled{number}.mp4"))
    taken = {Path(video).resolve() for video in videos} & {target.resolve() for target in targets}
    if taken or len(set(targets)) < len(targets):
        raise FarfieldError(
            f"labelled_videos={folder!r} would overwrite a video or another labelled one: "
            f"{sorted(map(str, taken or targets))[0]}. Choose another folder, or rename the videos."
        )
    if Path(folder).exists() and not Path(folder).is_dir():
        raise FarfieldError(f"labelled_videos is {folder}, which is a file. Give a folder.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return targets


def _as_dict(result: Prediction | VideoError) -> dict:
    if isinstance(result, VideoError):
        return {"path": result.path, "error": result.reason}
    return asdict(result)


def _table(prediction: Prediction) -> str:
    width = max(len(ranked.label) for ranked in prediction.ranking)
    rows = [f"  {ranked.label:<{width}}  {100 * ranked.probability:6.2f}%" for ranked in prediction.ranking]
    seen = f"{prediction.start_seconds:.2f} s to {prediction.end_seconds:.2f} s"
    return "\n".join([f"{prediction.path}  ({seen})", *rows])
