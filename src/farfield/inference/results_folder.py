"""A folder of predictions that a later run can resume.

predictions.jsonl gets a line for each video as soon as it is predicted. settings.json holds the options. Extra files of
a video, such as subtitles, are named after the video. Segments of one video are predicted and written separately. A
resumed run predicts a video again if the video's file has changed, if its prediction failed, or if its line in
predictions.jsonl is incomplete after a crash. Only one run at a time can write to a folder.
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

from farfield.atomic_write import write_text_atomically
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, VideoError, nearest
from farfield.inference.embeddings import join_features, write_features
from farfield.inference.labelled_video import write_labelled_video
from farfield.inference.output_formats import SUBTITLES
from farfield.inference.preannotation.annotated_video import annotated_videos
from farfield.inference.preannotation.eaf import is_about
from farfield.inference.preannotation.tools import TOOLS, check_tools, write_preannotations
from farfield.inference.prediction_schema import Prediction
from farfield.inference.tables_and_subtitles import as_csv, as_srt, as_vtt

Extra = Literal["csv", "srt", "vtt", "mp4", "safetensors", "parquet", "labelstudio", "cvat", "fiftyone", "eaf"]
FEATURE_FILES = ("safetensors", "parquet")
SETTINGS, JOURNAL, LOCK = "settings.json", "predictions.jsonl", ".lock"


def check_extras(extras: Sequence[str], *, timeline: bool) -> None:
    """Check that the kinds of extra files are known, and that a timeline is requested if one of the kinds needs it.

    Raises:
        FarfieldError: for an unknown kind, or if no timeline is requested for subtitles or for a labelling tool that
            needs one.
    """
    for extra in extras:
        if extra not in get_args(Extra):
            raise FarfieldError(f"{extra!r} is not a kind of file to write. {nearest(extra, get_args(Extra))}")
        if extra in SUBTITLES and not timeline:
            raise FarfieldError(
                f"{extra} files hold subtitles, which need a timeline. Give timeline=True (--timeline)."
            )
    check_tools(extras, timeline=timeline)


@contextmanager
def open_results(folder: str | Path, settings: dict[str, Any], extras: Sequence[str]) -> Iterator[Results]:
    """Open a results folder for the `with` block, and lock it against other runs.

    Args:
        folder: created if missing.
        settings: options that affect predictions, in plain types, from `PredictOptions.settings`.
        extras: kinds of extra files to write. "srt", "vtt" and "mp4" write one file for each video. "csv" writes one
            file for all videos, and so do "safetensors" and "parquet", which hold features. "labelstudio", "cvat",
            "fiftyone" and "eaf" write a folder for a labelling tool.

    Raises:
        FarfieldError: if the folder is a file, cannot be written, is locked by another run, holds predictions that were
            made with other settings, or holds files that are not from farfield.
    """
    path = Path(folder)
    with _writing(path):
        if path.exists() and not path.is_dir():
            raise FarfieldError(f"out is {folder}, which is a file. Give a folder.")
        path.mkdir(parents=True, exist_ok=True)
        if not (path / SETTINGS).is_file() and any(each.name != LOCK for each in path.iterdir()):
            # Writing could overwrite a video of the same name.
            raise FarfieldError(f"the folder {folder} holds files other than predictions. Give a new or empty folder.")
        try:
            lock = FileLock(path / LOCK).acquire(timeout=0)
        except Timeout as error:
            raise FarfieldError(f"another run is writing to {folder}. Wait for it, or give another folder.") from error
    with lock:
        yield Results(path, settings, extras)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FarfieldError(
            f"out is {folder}, which cannot be written: {error.strerror or error}. Give another folder."
        ) from error


class Results:
    """An open results folder. For the arguments, see `open_results`."""

    def __init__(self, folder: Path, settings: dict[str, Any], extras: Sequence[str]) -> None:
        self.folder = folder
        self._extras = list(dict.fromkeys(extras))
        self._timeline = settings.get("windows") is not None
        self._fps: float | None = settings.get("fps")
        with _writing(folder):
            self._entries, self._earlier_names = self._read()
            self._check_settings(settings)
            self._write_whole(SETTINGS, json.dumps(settings, indent=1, sort_keys=True) + "\n")
            self._write_whole(JOURNAL, "".join(map(_line, self._entries.values())))
        self._names = set(self._earlier_names.values())
        self._numbers: dict[str, int] = {}

    def is_done(self, record: VideoRecord) -> bool:
        """Return whether a video's prediction and extra files exist and the video is unchanged since its prediction."""
        entry = self._entries.get(_record_key(record))
        if entry is None or entry["file"] != _file_state(record.path):
            return False
        return all((self.folder / name).is_file() for name in self._files_of(entry["name"]).values())

    def prediction(self, record: VideoRecord) -> Prediction:
        """Return the stored prediction of a video or segment."""
        return _stored(self._entries[_record_key(record)])

    def add(self, prediction: Prediction, *, fps: float | None = None) -> Prediction:
        """Write the extra files of a video, then its line in predictions.jsonl.

        If the video could not be read, the extra files that an earlier run wrote for it are removed.

        Args:
            prediction: prediction of a video or segment.
            fps: frame rate if the video is a folder of pictures; None for the frame rate in the settings.

        Returns:
            The prediction. If the extra files could not be written, its `error` says why.
        """
        name = self._name(prediction.to_dict() | {"fps": fps})
        failed: str | None = None
        try:
            self._write_extras(name, prediction, fps)
        except VideoError as error:
            failed = f"its labelled copy could not be written: {error.reason}"
        except OSError as error:
            failed = f"not all of its files could be written: {error.strerror or error}"
        if failed is not None:
            prediction = replace(prediction, error="; ".join(filter(None, [prediction.error, failed])))
        entry = prediction.to_dict() | {"fps": fps, "name": name, "file": _file_state(prediction.path)}
        with _writing(self.folder), (self.folder / JOURNAL).open("a") as journal:
            journal.write(_line(entry))
            journal.flush()
            os.fsync(journal.fileno())
        self._entries[_key(entry)] = entry
        return prediction

    def finish(self, records: Sequence[VideoRecord], labels: Sequence[str] = ()) -> None:
        """Write the files that cover several videos, and remove outdated lines of predictions.jsonl.

        The files are predictions.csv, the features, and the folders for labelling tools, as far as they are requested.

        Args:
            records: videos and segments of videos that the files cover.
            labels: all classes of the network, which labelling tools offer to choose from.
        """
        keys = map(_record_key, records)
        entries = [self._entries[key] for key in keys if key in self._entries]
        with _writing(self.folder):
            self._write_whole(JOURNAL, "".join(map(_line, self._entries.values())))
            if "csv" in self._extras:
                predictions = list(map(_stored, entries))
                self._write_whole("predictions.csv", as_csv(predictions, timeline=self._timeline))
            for kind in FEATURE_FILES:
                if kind in self._extras:
                    parts = [(entry["path"], self._part(entry["name"])) for entry in entries]
                    parts = [(video, part) for video, part in parts if part.is_file()]
                    join_features(parts, self.folder / f"features.{kind}")
            self._write_for_tools(entries, labels)

    def _write_for_tools(self, entries: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
        tools = [kind for kind in self._extras if kind in TOOLS]
        if tools:
            videos = annotated_videos((entry["name"], _stored(entry)) for entry in entries)
            for tool in tools:
                write_preannotations(tool, self.folder / tool, videos, labels)

    def _write_extras(self, name: str, prediction: Prediction, fps: float | None) -> None:
        if not prediction.ranking:
            for left in (*(self.folder / f"{name}{end}" for end in _SUFFIXES.values()), self._part(name)):
                left.unlink(missing_ok=True)
            return
        files = self._files_of(name)
        for kind, write in (("srt", as_srt), ("vtt", as_vtt)):
            if kind in files:
                self._write_whole(files[kind], write(prediction))
        if prediction.features is not None and prediction.feature_seconds is not None:
            write_features(self._part(name), prediction.features, prediction.feature_seconds)
        if "mp4" in files:
            copy = self.folder / files["mp4"]
            copy.unlink(missing_ok=True)  # so that no old copy stays if this fails
            write_labelled_video(prediction, copy, fps=fps or self._fps)

    def _files_of(self, name: str) -> dict[str, str]:
        """Map each requested kind of extra file of one video (see `_SUFFIXES`) to the file's name.

        `name` is the base name of the video's files.
        """
        return {kind: f"{name}{end}" for kind, end in _SUFFIXES.items() if kind in self._extras}

    def _part(self, name: str) -> Path:
        return self.folder / "features" / f"{name}.safetensors"

    def _name(self, entry: dict[str, Any]) -> str:
        """Return the base name of a video's extra files: the video's name without suffix.

        If a base name was already chosen for the video, it is kept. A number is appended if another video has the base
        name, or if a labelling tool's file of this name exists, which may hold a person's corrections. The video's name
        is cut to 200 bytes of valid UTF-8, because file systems allow 255 bytes including suffixes.

        Args:
            entry: the prediction as a dict, with the key "fps".
        """
        if (known := self._earlier_names.get(_key(entry))) is not None:
            return known
        stem = os.fsencode(Path(entry["path"]).stem)[:200].decode(errors="ignore") or "video"
        numbers = itertools.count(self._numbers.get(stem, 1))
        names = ((number, stem if number == 1 else f"{stem}_{number}") for number in numbers)
        self._numbers[stem], name = next(
            pair for pair in names if pair[1] not in self._names and not self._is_corrected(pair[1], entry["path"])
        )
        self._names.add(name)
        self._earlier_names[_key(entry)] = name
        return name

    def _is_corrected(self, name: str, path: str) -> bool:
        """Return whether a tool saves corrections of another video than `path` into a file of this base name."""
        tools = [kind for kind in self._extras if kind in TOOLS and TOOLS[kind].saved_in_place]
        files = [self.folder / tool / f"{name}.{tool}" for tool in tools]
        return any(file.exists() and not is_about(file, path) for file in files)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        """Check that the settings equal those of the stored predictions, if the folder has any."""
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
                f"{self.folder} holds predictions made with other settings: {'; '.join(changed)}. Give the same "
                "settings, or another folder."
            )

    def _read(self) -> tuple[dict[Key, dict[str, Any]], dict[Key, str]]:
        """Read the complete predictions, and the base names of all videos, also of those that failed."""
        journal = self.folder / JOURNAL
        entries: dict[Key, dict[str, Any]] = {}
        names: dict[Key, str] = {}
        for line in journal.read_text().splitlines() if journal.is_file() else ():
            try:
                entry = json.loads(line)
                entries.pop(_key(entry), None)  # the last line of a video is valid
                names[_key(entry)] = str(entry["name"])
                complete = entry["ranking"] and entry.get("error") is None and entry["name"] and entry["file"]
            except (ValueError, KeyError, TypeError):  # cut off, or a failure
                continue
            if complete:
                entries[_key(entry)] = entry
        return entries, names

    def _write_whole(self, name: str, text: str) -> None:
        write_text_atomically(self.folder / name, text)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run as one flat dict, to compare them with those of another run.

    The entries of the dicts "views" and "windows" are moved to the top level. The added entry "timeline" is True if
    `settings["windows"]` is not None.
    """
    flat = {name: value for name, value in settings.items() if not isinstance(value, dict) and name != "windows"}
    for group in settings.values():
        flat |= group if isinstance(group, dict) else {}
    return flat | {"timeline": settings.get("windows") is not None}


Key = tuple[str, float | None, float | None, float | None]
"""Identifies a prediction: path, start and end of the segment, and frame rate of a folder of pictures."""


def _key(entry: dict[str, Any]) -> Key:
    """Return the key of a prediction, (path, start, end, fps), from its line of predictions.jsonl.

    Lines that older farfield versions wrote, before segments could be predicted, have only the path. For them, the
    other values of the key are None.
    """
    return (
        entry["path"],
        entry.get("requested_start_seconds"),
        entry.get("requested_end_seconds"),
        entry.get("fps"),
    )


def _record_key(record: VideoRecord) -> Key:
    return record.path, record.start_seconds, record.end_seconds, record.fps


def _stored(entry: dict[str, Any]) -> Prediction:
    return Prediction.from_dict({name: value for name, value in entry.items() if name not in _RECORD})


_RECORD = ("fps", "name", "file")
"""Keys of a line of predictions.jsonl that are not fields of `Prediction`."""
_SUFFIXES = {"srt": ".srt", "vtt": ".vtt", "mp4": "_labelled.mp4"}
"""Maps a kind of extra file, of which each video has one, to the suffix of the file's name."""


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _file_state(path: str) -> list[int] | None:
    """Return a file's size in bytes and modification time in nanoseconds; None if the file cannot be accessed."""
    try:
        about = Path(path).stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]
