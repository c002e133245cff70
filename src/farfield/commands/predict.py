"""`farfield predict`: recognise actions in video files."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

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
        device: where to run: auto, cpu, cuda, cuda:1.
        json: print JSON: a list with one object per video, with "error" in place of "ranking" where it failed.
        labelled_videos: folder for copies of the videos with the labels written under the picture.
    """
    paths = find_videos(videos)
    model = load_model(checkpoint).to(_device(device))
    results: list[Prediction | VideoError] = []
    for path in tqdm(paths, desc="predict", unit="video", disable=len(paths) == 1):
        try:
            prediction = predict_video(path, model, top_k=top_k, num_clips=num_clips, num_crops=num_crops)
            if labelled_videos is not None:
                write_labelled_video(prediction, _target(labelled_videos, path, paths))
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


def _target(folder: str, path: str, paths: list[str]) -> Path:
    """<folder>/<name>.mp4, with a number where another video has the same name."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    stem = Path(path).stem
    same = [other for other in paths if Path(other).stem == stem]
    number = f"_{same.index(path)}" if len(same) > 1 else ""
    return Path(folder, f"{stem}{number}.mp4")


def _as_dict(result: Prediction | VideoError) -> dict:
    if isinstance(result, VideoError):
        return {"path": result.path, "error": result.reason}
    return asdict(result)


def _table(prediction: Prediction) -> str:
    width = max(len(ranked.label) for ranked in prediction.ranking)
    rows = [f"  {ranked.label:<{width}}  {100 * ranked.probability:6.2f}%" for ranked in prediction.ranking]
    seen = f"{prediction.start_seconds:.2f} s to {prediction.end_seconds:.2f} s"
    return "\n".join([f"{prediction.path}  ({seen})", *rows])
