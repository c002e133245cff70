"""A folder of answers that a second run goes on with.

predictions.jsonl has a line for each video, added as soon as it is answered; settings.json says what was asked; what is
written for each video lies beside it under the video's name. Asked again are: a video whose file has changed, one that
failed, and one whose line a crash has cut off. One run at a time writes to a folder.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError, VideoError, nearest
from farfield.inference.embeddings import join_features, write_features
from farfield.inference.labelled_video import write_labelled_video
from farfield.inference.prediction_formats import SUBTITLES, Answer, as_csv, as_srt, as_vtt

Extra = Literal["csv", "srt", "vtt", "mp4", "safetensors", "parquet"]
FEATURE_FILES = ("safetensors", "parquet")
SETTINGS, JOURNAL, LOCK = "settings.json", "predictions.jsonl", ".lock"


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


@contextmanager
def open_results(folder: str | Path, settings: dict[str, Any], extras: Sequence[str]) -> Iterator[Results]:
    """Opens a folder of answers for the length of a `with` block, in which no other run can.

    Args:
        folder: made where it is not there.
        settings: what is asked, in plain types.
        extras: what else to write: csv (one for all), srt, vtt and mp4 (one for each video), safetensors or parquet
            (features, one for all).

    Raises:
        FarfieldError: where the folder is a file or cannot be written, holds other things or answers to something else,
            or another run is at it.
    """
    path = Path(folder)
    with _writing(path):
        if path.exists() and not path.is_dir():
            raise FarfieldError(f"out is {folder}, which is a file. Give a folder.")
        path.mkdir(parents=True, exist_ok=True)
        if not (path / SETTINGS).is_file() and any(each.name != LOCK for each in path.iterdir()):
            # A video of that name might lie there, and would be overwritten.
            raise FarfieldError(f"the folder {folder} holds other things. Give a new one, or an empty one.")
        try:
            lock = FileLock(path / LOCK).acquire(timeout=0)
        except Timeout as error:
            raise FarfieldError(f"another run writes to {folder}. Wait for it, or give another folder.") from error
    with lock:
        yield Results(path, settings, extras)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FarfieldError(f"out is {folder}, which cannot be written: {error.strerror or error}.") from error


class Results:
    """A folder of answers that `open_results` has opened; its arguments are explained there."""

    def __init__(self, folder: Path, settings: dict[str, Any], extras: Sequence[str]) -> None:
        self.folder = folder
        self._extras = list(dict.fromkeys(extras))
        self._timeline = settings.get("windows") is not None
        with _writing(folder):
            self._entries = self._read()
            self._check_settings(settings)
            self._write_whole(SETTINGS, json.dumps(settings, indent=1, sort_keys=True) + "\n")
            self._write_whole(JOURNAL, "".join(map(_line, self._entries.values())))
        self._names = {str(entry["name"]) for entry in self._entries.values()}
        self._numbers: dict[str, int] = {}

    def answered(self, path: str) -> bool:
        """Whether a video's answer is there, made of the file as it is now, with all that is to be written of it."""
        entry = self._entries.get(path)
        if entry is None or entry["file"] != _state_of(path):
            return False
        return all((self.folder / name).is_file() for name in self._files_of(entry["name"]).values())

    def answer(self, path: str) -> Answer:
        """The answer that is there."""
        return Answer.from_dict({name: value for name, value in self._entries[path].items() if name not in _OURS})

    def add(self, answer: Answer) -> Answer:
        """Writes an answer and what belongs to it; the line in predictions.jsonl comes last, when all of it is there.

        Where there is no answer, nothing stays of an earlier one.

        Returns:
            The answer, with an error where what belongs to it could not be written.
        """
        name = self._name(answer.path)
        failed: str | None = None
        try:
            self._write_extras(name, answer)
        except VideoError as error:
            failed = f"its labelled copy could not be made: {error.reason}"
        except OSError as error:
            failed = f"not all of it could be written: {error.strerror or error}"
        if failed is not None:
            answer = replace(answer, error="; ".join(filter(None, [answer.error, failed])))
        entry = answer.as_dict() | {"name": name, "file": _state_of(answer.path)}
        with _writing(self.folder), (self.folder / JOURNAL).open("a") as journal:
            journal.write(_line(entry))
            journal.flush()
            os.fsync(journal.fileno())
        self._entries[answer.path] = entry
        return answer

    def finish(self, paths: Sequence[str]) -> None:
        """Writes what is made of all answers: the CSV, and features in one file; and each answer's last line only."""
        entries = [self._entries[path] for path in paths if path in self._entries]
        with _writing(self.folder):
            self._write_whole(JOURNAL, "".join(map(_line, self._entries.values())))
            if "csv" in self._extras:
                answers = [self.answer(entry["path"]) for entry in entries]
                self._write_whole("predictions.csv", as_csv(answers, timeline=self._timeline))
            for kind in FEATURE_FILES:
                if kind in self._extras:
                    parts = {e["path"]: self._part(e["name"]) for e in entries if self._part(e["name"]).is_file()}
                    join_features(parts, self.folder / f"features.{kind}")

    def _write_extras(self, name: str, answer: Answer) -> None:
        if not answer.ranking:
            for left in (*(self.folder / f"{name}{end}" for end in _OWN.values()), self._part(name)):
                left.unlink(missing_ok=True)
            return
        files = self._files_of(name)
        for kind, write in (("srt", as_srt), ("vtt", as_vtt)):
            if kind in files:
                self._write_whole(files[kind], write(answer))
        if answer.features is not None and answer.feature_seconds is not None:
            write_features(self._part(name), answer.features, answer.feature_seconds)
        if "mp4" in files:
            copy = self.folder / files["mp4"]
            copy.unlink(missing_ok=True)  # an earlier one, since this may fail
            write_labelled_video(answer, copy)

    def _files_of(self, name: str) -> dict[str, str]:
        """The extra files that each video has of its own, by kind."""
        return {kind: f"{name}{end}" for kind, end in _OWN.items() if kind in self._extras}

    def _part(self, name: str) -> Path:
        return self.folder / "features" / f"{name}.safetensors"

    def _name(self, path: str) -> str:
        """The file's own name without its suffix, with a number where another video has it already.

        It is UTF-8, and short enough for what is put after it: file systems allow 255 bytes.
        """
        if path in self._entries:
            return str(self._entries[path]["name"])
        stem = os.fsencode(Path(path).stem)[:200].decode(errors="ignore") or "video"
        numbers = itertools.count(self._numbers.get(stem, 1))
        names = ((number, stem if number == 1 else f"{stem}_{number}") for number in numbers)
        self._numbers[stem], name = next(pair for pair in names if pair[1] not in self._names)
        self._names.add(name)
        return name

    def _check_settings(self, settings: dict[str, Any]) -> None:
        """Refuses other settings than those of the answers that are there; without answers, any will do."""
        if not self._entries:
            return
        try:
            known = dict(json.loads((self.folder / SETTINGS).read_text()))
        except (ValueError, TypeError):
            known = {}
        before, now = _flat(known), _flat(settings)
        changed = [
            f"{name} was {before.get(name)}, now {now.get(name)}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise FarfieldError(
                f"{self.folder} holds answers to other settings: {'; '.join(changed)}. Give the same, or another "
                "folder."
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        journal = self.folder / JOURNAL
        entries: dict[str, dict[str, Any]] = {}
        for line in journal.read_text().splitlines() if journal.is_file() else ():
            try:
                entry = json.loads(line)
                entries.pop(entry["path"], None)  # the last line of a video counts
                whole = bool(entry["ranking"]) and "error" not in entry and entry["name"] and entry["file"]
            except (ValueError, KeyError, TypeError):  # cut off, or a failure
                continue
            if whole:
                entries[entry["path"]] = entry
        return entries

    def _write_whole(self, name: str, text: str) -> None:
        with atomic_write(self.folder / name) as partial:
            # Paths that are no UTF-8 become the bytes again that they are.
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the names of their options, whatever group they are in."""
    flat = {name: value for name, value in settings.items() if not isinstance(value, dict) and name != "windows"}
    for group in settings.values():
        flat |= group if isinstance(group, dict) else {}
    return flat | {"timeline": settings.get("windows") is not None}


_OURS = ("name", "file")
_OWN = {"srt": ".srt", "vtt": ".vtt", "mp4": "_labelled.mp4"}
"""How the files end that each video has of its own, by kind."""


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _state_of(path: str) -> list[int] | None:
    """Size and time of change, by which a file is known to be the same."""
    try:
        about = Path(path).stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]
