"""The labelling tools by name, a function that writes their files, and checks to make before predicting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farfield.atomic_write import write_text_atomically
from farfield.errors import FarfieldError
from farfield.inference.preannotation.annotated_video import AnnotatedVideo
from farfield.inference.preannotation.cvat import cvat_files
from farfield.inference.preannotation.eaf import eaf_files
from farfield.inference.preannotation.fiftyone import fiftyone_files
from farfield.inference.preannotation.labelstudio import labelstudio_files
from farfield.inference.preannotation.xml_text import NOT_IN_XML


@dataclass(frozen=True)
class Tool:
    """A labelling tool.

    Attributes:
        files: function that takes the videos, all classes and the output folder, and returns the content of each file
            by file name.
        whole_videos: whether the tool can also hold labels of whole videos. If False, a timeline is needed.
        saved_in_place: whether the tool saves corrections into the files that farfield wrote. If True, existing files
            are kept.
    """

    files: Callable[[Sequence[AnnotatedVideo], Sequence[str], Path], dict[str, str]]
    whole_videos: bool = False
    saved_in_place: bool = False


TOOLS: dict[str, Tool] = {
    "labelstudio": Tool(labelstudio_files, whole_videos=True),
    "cvat": Tool(cvat_files),
    "fiftyone": Tool(fiftyone_files),
    "eaf": Tool(eaf_files, saved_in_place=True),
}
"""Labelling tools by name."""


def check_tools(names: Iterable[str], *, timeline: bool) -> None:
    """Check that a timeline is requested if any of the tools needs one.

    A tool needs a timeline if it cannot hold labels of whole videos.

    Raises:
        FarfieldError: if a tool needs a timeline and `timeline` is False.
    """
    for name in names:
        if name in TOOLS and not TOOLS[name].whole_videos and not timeline:
            raise FarfieldError(
                f"{name} files need the times of actions, which only a timeline has. Give timeline=True (--timeline)."
            )


def check_annotatable(names: Iterable[str], paths: Iterable[str], labels: Sequence[str]) -> None:
    """Check that labelling tools can open the videos and hold the labels.

    Raises:
        FarfieldError: if a path is a folder of pictures, or a label has a character that XML does not allow.
    """
    tools = [name for name in names if name in TOOLS]
    if not tools:
        return
    for path in paths:
        if Path(path).is_dir():
            raise FarfieldError(
                f"{path} is a folder of pictures, which {tools[0]} cannot show as a video. Leave this folder out, or "
                f"do not write {tools[0]} files."
            )
    for label in labels:
        if NOT_IN_XML.search(label):
            raise FarfieldError(
                f"the class {label!r} has a character that XML does not allow. Do not write {' or '.join(tools)} files."
            )


def write_preannotations(name: str, folder: Path, videos: Sequence[AnnotatedVideo], labels: Sequence[str]) -> None:
    """Write the files of a labelling tool into a folder, each atomically. The folder is created if it is missing.

    If the tool saves corrections into these files, existing files are kept.
    """
    folder.mkdir(exist_ok=True)
    for file, content in TOOLS[name].files(videos, labels, folder).items():
        target = folder / file
        if not (TOOLS[name].saved_in_place and target.exists()):
            write_text_atomically(target, content)
