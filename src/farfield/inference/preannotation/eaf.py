"""Write predictions for ELAN: an .eaf file for each video, in version 3.0 of the format.

The following is from the format's schema (EAFv3.0.xsd) and ELAN's code (see also `farfield.curation.formats.eaf`):

- Annotations on one tier cannot overlap. Overlapping actions are on several tiers, named `actions`, `actions 2`, ...,
  which have the same type.
- These tiers share a controlled vocabulary, so that ELAN offers the classes of the network to choose from.
- Each of these tiers has a dependent tier with the probabilities. If an action is deleted, ELAN deletes its
  probability.
- Times are in milliseconds, and time slots are in order of time. URLs of files are not percent-encoded.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from farfield.curation.formats.eaf import ASSOCIATION
from farfield.curation.formats.xml_files import read_xml
from farfield.errors import FarfieldError
from farfield.inference.preannotation.annotated_video import AnnotatedVideo
from farfield.inference.preannotation.xml_text import path_text, xml_text

ACTIONS, PROBABILITY = "actions", "probability"
"""Names of the two types of tiers, and of the first tier of each type."""

INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
LANGUAGE = {"LANG_ID": "und", "LANG_DEF": "http://cdb.iso.org/lg/CDB-00130975-001", "LANG_LABEL": "undetermined (und)"}


@dataclass(frozen=True)
class _Span:
    """A label on a tier: its start and end in milliseconds, its text and its probability."""

    start: int
    end: int
    label: str
    score: float


@dataclass
class _Ids:
    """Create the IDs of annotations and time slots, numbered from 1."""

    annotations: int = 0
    slots: list[tuple[int, str]] = field(default_factory=list)

    def annotation(self) -> str:
        self.annotations += 1
        return f"a{self.annotations}"

    def slot(self, milliseconds: int) -> str:
        self.slots.append((milliseconds, f"ts{len(self.slots) + 1}"))
        return self.slots[-1][1]


def eaf_files(videos: Sequence[AnnotatedVideo], labels: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the files to write, as {name: content}: NAME.eaf for each video.

    Args:
        videos: videos with their actions.
        labels: all classes of the network.
        folder: folder that the files will be in. The relative paths of videos in the files start from there.
    """
    return {f"{video.name}.eaf": _document(video, labels, folder) for video in videos}


def _document(video: AnnotatedVideo, labels: Sequence[str], folder: Path) -> str:
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "farfield",
            "DATE": datetime.fromtimestamp(int(video.path.stat().st_mtime), UTC).isoformat(),  # reproducible
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{INSTANCE}}}noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", _medium(video, folder))
    order = ElementTree.SubElement(root, "TIME_ORDER")
    ids = _Ids()
    entries = {label: f"cve{number}" for number, label in enumerate(labels, start=1)}
    for number, spans in enumerate(_tiers(video), start=1):
        _add_tiers(root, spans, "" if number == 1 else f" {number}", ids, entries)
    for milliseconds, slot in sorted(ids.slots, key=lambda each: each[0]):
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(milliseconds)})
    last = ElementTree.SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"})
    last.text = str(ids.annotations)
    _add_types(root, entries)
    ElementTree.register_namespace("xsi", INSTANCE)
    return xml_text(root)


def is_about(file: Path, video: str | Path) -> bool:
    """Return whether an .eaf file in the output folder names `video` as its medium; False for a damaged file."""
    try:
        document = read_xml(file, "ELAN", "")
    except (FarfieldError, OSError):
        return False
    url = _relative_url(Path(video).absolute(), file.parent)
    return any(medium.get("RELATIVE_MEDIA_URL") == url for medium in document.iter("MEDIA_DESCRIPTOR"))


def _relative_url(video: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(video, folder.absolute())).as_posix()
    return path_text(relative if relative.startswith("../") else f"./{relative}")


def _medium(video: AnnotatedVideo, folder: Path) -> dict[str, str]:
    return {
        "MEDIA_URL": f"file:///{path_text(video.path.as_posix()).lstrip('/')}",
        "MIME_TYPE": mimetypes.guess_type(video.path.name)[0] or "video/mp4",
        "RELATIVE_MEDIA_URL": _relative_url(video.path, folder),
    }


def _tiers(video: AnnotatedVideo) -> list[list[_Span]]:
    """Divide the labels of all actions among as few tiers as possible, so that labels on one tier do not overlap."""
    tiers: list[list[_Span]] = [[]]
    for action in video.actions or []:
        start = round(1000 * action.start_seconds)
        end = max(round(1000 * action.end_seconds), start + 1)
        for label in action.labels:
            free = next((tier for tier in tiers if not tier or tier[-1].end <= start), None)
            if free is None:
                tiers.append(free := [])
            free.append(_Span(start, end, label, action.score))
    return tiers


def _add_tiers(root: ElementTree.Element, spans: list[_Span], suffix: str, ids: _Ids, entries: dict[str, str]) -> None:
    """Add a tier of actions, and a dependent tier of their probabilities.

    Args:
        root: document to which the tiers are added.
        spans: labels for the tier of actions, with their times and probabilities.
        suffix: end of both tiers' names, for example " 2"; "" for the first pair of tiers.
        ids: creates the IDs of annotations and time slots.
        entries: class name to ID in the controlled vocabulary.
    """
    name = ACTIONS + suffix
    actions = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": ACTIONS, "TIER_ID": name})
    about = {"LINGUISTIC_TYPE_REF": PROBABILITY, "PARENT_REF": name, "TIER_ID": PROBABILITY + suffix}
    probabilities = ElementTree.SubElement(root, "TIER", about)
    for span in spans:
        parent = ids.annotation()
        about = {"ANNOTATION_ID": parent, "CVE_REF": entries[span.label]}
        about |= {"TIME_SLOT_REF1": ids.slot(span.start), "TIME_SLOT_REF2": ids.slot(span.end)}
        _add_annotation(actions, "ALIGNABLE_ANNOTATION", about, span.label)
        about = {"ANNOTATION_ID": ids.annotation(), "ANNOTATION_REF": parent}
        _add_annotation(probabilities, "REF_ANNOTATION", about, f"{span.score:.4f}")


def _add_annotation(tier: ElementTree.Element, kind: str, about: dict[str, str], value: str) -> None:
    node = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), kind, about)
    ElementTree.SubElement(node, "ANNOTATION_VALUE").text = value


def _add_types(root: ElementTree.Element, entries: dict[str, str]) -> None:
    """Add the types of the tiers, and the controlled vocabulary of the classes.

    Args:
        root: document to which the types and the vocabulary are added.
        entries: class name to ID in the controlled vocabulary.
    """
    common = {"GRAPHIC_REFERENCES": "false"}
    actions = {"CONTROLLED_VOCABULARY_REF": ACTIONS, "LINGUISTIC_TYPE_ID": ACTIONS, "TIME_ALIGNABLE": "true"}
    probability = {"CONSTRAINTS": ASSOCIATION, "LINGUISTIC_TYPE_ID": PROBABILITY, "TIME_ALIGNABLE": "false"}
    for about in (actions, probability):
        ElementTree.SubElement(root, "LINGUISTIC_TYPE", common | about)
    ElementTree.SubElement(root, "LANGUAGE", LANGUAGE)
    about = {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": ASSOCIATION}
    ElementTree.SubElement(root, "CONSTRAINT", about)
    vocabulary = ElementTree.SubElement(root, "CONTROLLED_VOCABULARY", {"CV_ID": ACTIONS})
    ElementTree.SubElement(vocabulary, "DESCRIPTION", {"LANG_REF": LANGUAGE["LANG_ID"]})
    for label, identifier in entries.items():
        entry = ElementTree.SubElement(vocabulary, "CV_ENTRY_ML", {"CVE_ID": identifier})
        value = ElementTree.SubElement(entry, "CVE_VALUE", {"DESCRIPTION": "", "LANG_REF": LANGUAGE["LANG_ID"]})
        value.text = label
