"""A folder of answers that a second run goes on with.

predictions.jsonl has a line for each video, added as soon as it is answered; settings.json says what was asked; what is
written for each video lies beside it under the video's name. Asked again are: a video whose file has changed, one that
failed, and one whose line a crash has cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from farfield.errors import FarfieldError, nearest
from farfield.inference.annotate import write_labelled_video
from farfield.inference.answers import SUBTITLES, Answer, as_csv, as_srt, as_vtt
from farfield.inference.features import join_features, write_features

Extra = Literal["csv", "srt", "vtt", "mp4", "safetensors", "parquet"]
FEATURE_FILES = ("safetensors", "parquet")


def check_extras(extras: Sequence[str], *, timeline: bool) -> None:
    """Refuses files that do not exist, and subtitles where there is no timeline.

    Raises:
        FarfieldError: for either.
    """
    for extra in extras:
        if extra not in get_args(Extra):
            raise FarfieldError(f"write has {extra!r}. {nearest(extra, get_args(Extra))}")
        if extra in SUBTITLES and not timeline:
            raise FarfieldError(f"subtitles ({extra}) say what happens when: ask for --timeline, too.")


class Results:
    """An open folder of answers.

    Args:
        folder: made where it is not there.
        settings: what is asked, in plain types.
        extras: what else to write: csv (one for all), srt, vtt and mp4 (one for each video), safetensors or parquet
            (features, one for all).

    Raises:
        FarfieldError: where the folder is a file, or holds answers to something else.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], extras: Sequence[str]) -> None:
        self.folder = Path(folder)
        self._extras = list(dict.fromkeys(extras))
        self._timeline = settings.get("windows") is not None
        if self.folder.exists() and not self.folder.is_dir():
            raise FarfieldError(f"out is {folder}, which is a file. Give a folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(settings)
        self._entries = self._read()
        self._write_whole("predictions.jsonl", "".join(_line(entry) for entry in self._entries.values()))
        self._journal = (self.folder / "predictions.jsonl").open("a")

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def answered(self, path: str) -> bool:
        """Whether a video's answer is there, made of the file as it is now, with all that is to be written of it."""
        entry = self._entries.get(path)
        if entry is None or entry["file"] != _state_of(path):
            return False
        return all((self.folder / name).is_file() for name in self._files_of(entry["name"]).values())

    def answer(self, path: str) -> Answer:
        """The answer that is there."""
        return Answer.from_dict({name: value for name, value in self._entries[path].items() if name not in _OURS})

    def add(self, answer: Answer) -> None:
        """Writes an answer and what belongs to it; the line in predictions.jsonl comes last, when all of it is there.

        Raises:
            VideoError: where a labelled copy is to be made and the video cannot be read any more.
        """
        name = self._name(answer.path)
        if answer.ranking:
            self._write_extras(name, answer)
        entry = answer.as_dict() | {"name": name, "file": _state_of(answer.path)}
        self._journal.write(_line(entry))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._entries[answer.path] = entry

    def finish(self, paths: Sequence[str]) -> None:
        """Writes what is made of all answers: the CSV, and features in one file."""
        entries = [self._entries[path] for path in paths if path in self._entries]
        if "csv" in self._extras:
            answers = [self.answer(entry["path"]) for entry in entries]
            self._write_whole("predictions.csv", as_csv(answers, timeline=self._timeline))
        for kind in FEATURE_FILES:
            if kind in self._extras:
                parts = {e["path"]: self._part(e["name"]) for e in entries if self._part(e["name"]).is_file()}
                join_features(parts, self.folder / f"features.{kind}")

    def _write_extras(self, name: str, answer: Answer) -> None:
        files = self._files_of(name)
        for kind, write in (("srt", as_srt), ("vtt", as_vtt)):
            if kind in files:
                self._write_whole(files[kind], write(answer))
        if "mp4" in files:
            write_labelled_video(answer, self.folder / files["mp4"])
        if answer.features is not None and answer.feature_seconds is not None:
            write_features(self._part(name), answer.features, answer.feature_seconds)

    def _files_of(self, name: str) -> dict[str, str]:
        """The extra files that each video has of its own, by kind."""
        own = {"srt": f"{name}.srt", "vtt": f"{name}.vtt", "mp4": f"{name}_labelled.mp4"}
        return {kind: file for kind, file in own.items() if kind in self._extras}

    def _part(self, name: str) -> Path:
        return self.folder / "features" / f"{name}.safetensors"

    def _name(self, path: str) -> str:
        """The file's own name without its suffix, with a number where another video has it already."""
        if path in self._entries:
            return str(self._entries[path]["name"])
        taken = {entry["name"] for entry in self._entries.values()}
        stem = Path(path).stem
        names = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.folder / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        if path.is_file() and path.read_text() != text:
            raise FarfieldError(
                f"{self.folder} holds answers to other settings: see {path}. Give the same, or another folder."
            )
        if not path.is_file():
            if any(self.folder.iterdir()):  # a video of that name might lie there, and would be overwritten
                raise FarfieldError(f"the folder {self.folder} holds other things. Give a new one, or an empty one.")
            self._write_whole("settings.json", text)

    def _read(self) -> dict[str, dict[str, Any]]:
        journal = self.folder / "predictions.jsonl"
        entries: dict[str, dict[str, Any]] = {}
        for line in journal.read_text().splitlines() if journal.is_file() else ():
            try:
                entry = json.loads(line)
                whole = bool(entry["ranking"]) and "error" not in entry and entry["name"] and entry["file"]
            except (ValueError, KeyError, TypeError):  # cut off, or a failure
                continue
            if whole:
                entries[entry["path"]] = entry
        return entries

    def _write_whole(self, name: str, text: str) -> None:
        partial = self.folder / f"{name}.partial"
        try:
            partial.write_text(text)
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)


_OURS = ("name", "file")


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _state_of(path: str) -> list[int] | None:
    """Size and time of change, by which a file is known to be the same."""
    try:
        about = Path(path).stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]
