"""Read ELAN's annotation files (.eaf), one for each video.

    <ANNOTATION_DOCUMENT ...><HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="file:///data/a.mp4"
        MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./a.mp4"/></HEADER>
      <TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1200"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2400"/>...
      <TIER TIER_ID="actions" LINGUISTIC_TYPE_REF="actions"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"
        TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>jump</ANNOTATION_VALUE>...
      <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="actions" TIME_ALIGNABLE="true"/>...

According to the format's schema (EAFv3.0.xsd) and ELAN's code:

- An annotation lies between two time slots, in milliseconds. A slot without a value lies somewhere between its
  neighbours; annotations with such a slot are left out.
- `TIME_ORIGIN` is the offset of the annotations' time 0 from the start of the video, in milliseconds.
- A REF_ANNOTATION has no times of its own. If its tier's type has the constraint Symbolic_Association, the times are
  those of the parent annotation. With Symbolic_Subdivision, the annotation is a part of its parent, and is left out.
- Several tiers, for example one for each person, may have the same type (LINGUISTIC_TYPE, "tier type" in ELAN). The
  labels are the values of the annotations on the tiers of one type.
- ELAN does not percent-encode spaces and non-ASCII letters in URLs of files (`pathToURLString` in FileUtility.java);
  other programs do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.tool_export import choose, find_videos, join_labels
from farfield.curation.formats.xml_files import read_xml
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

NEEDED = "Give a file that ELAN has saved (.eaf), or a folder of such files."

ASSOCIATION = "Symbolic_Association"
"""Constraint of tier types whose annotations have the times of their parents."""


@dataclass
class _Annotation:
    """One annotation on a tier.

    Attributes:
        value: text of the annotation.
        times: (start, end) in milliseconds. Start or end is None if its time slot has no value. For a REF_ANNOTATION,
            `times` itself is None.
        parent: id of the parent annotation of a REF_ANNOTATION; None for other annotations.
    """

    value: str
    times: tuple[int | None, int | None] | None
    parent: str | None


@dataclass
class _Tier:
    """A tier: a named layer of annotations.

    Attributes:
        name: id of the tier (TIER_ID).
        type: name of the tier's type.
        constraint: constraint of the type, such as Symbolic_Association; None for a type without a constraint.
        is_root: whether the tier has no parent tier.
        annotations: annotations of the tier, by id.
    """

    name: str
    type: str
    constraint: str | None
    is_root: bool
    annotations: dict[str, _Annotation]


@dataclass
class _Document:
    """Content of an .eaf file.

    Attributes:
        path: path of the .eaf file.
        videos: paths at which the annotated video may be, from the absolute and the relative URL in the file, each
            with and without percent-decoding. If the file names no video: only its own name, with .mp4 in
            place of .eaf.
        origin: time from the start of the video to time 0 of the annotations (TIME_ORIGIN), in milliseconds.
        tiers: tiers of the file.
    """

    path: Path
    videos: list[str]
    origin: int
    tiers: list[_Tier] = field(default_factory=list)


def read_eaf(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read ELAN's .eaf file, or all .eaf files in a folder; yield a row for each annotation on tiers of one type.

    `source.label_column` names the tier type to read or, if no type has this name, a single tier. If it is None, the
    type is that of the tiers without a parent tier, which must all have the same type. Tiers without annotations do not
    count.

    Raises:
        FarfieldError: in these cases:

            - there is no .eaf file, or a file has another format, or times in other units than milliseconds;
            - `source.label_column` is neither the type nor the name of a tier;
            - `source.label_column` is None, and the tiers without a parent tier have several types.
    """
    given = source.annotations
    files = sorted(given.rglob("*.eaf")) if given.is_dir() else [given]
    if not files:
        raise FarfieldError(f"there is no .eaf file in {given}. {NEEDED}")
    documents = {str(path): _read_document(path) for path in files}
    tiers = [tier for document in documents.values() for tier in document.tiers if tier.annotations]
    names = [tier.type for tier in tiers if tier.is_root or source.label_column is not None]
    if source.label_column is not None:
        names += [tier.name for tier in tiers]
    wanted = choose(source.label_column, names, "tier type", source)
    by_type = any(tier.type == wanted for tier in tiers)
    for name, video in find_videos(source, {name: each.videos for name, each in documents.items()}).items():
        chosen = [tier for tier in documents[name].tiers if (tier.type if by_type else tier.name) == wanted]
        if not any(tier.annotations for tier in chosen):
            yield from source.without_label(name, video)
        for start, end, label in sorted(_rows(source, documents[name], chosen)):
            yield VideoRecord(video, label, start, end)


def _rows(source: AnnotationSource, document: _Document, tiers: list[_Tier]) -> set[tuple[float, float, str]]:
    """Return (start in seconds, end in seconds, label) of each annotation on some tiers of a file.

    Annotations without usable times or text are added to `source.left_out`.

    Args:
        source: videos, annotations and options of the collection.
        document: content of the .eaf file.
        tiers: tiers of the file to read.
    """
    everything = {key: (tier, each) for tier in document.tiers for key, each in tier.annotations.items()}
    rows = set()
    for tier in tiers:
        for key, annotation in tier.annotations.items():
            times = _times(key, everything)
            label = join_labels([annotation.value], f"{document.path}, tier {tier.name}")
            if times is None:
                reason = "has no times of its own"
            elif not 0 <= times[0] + document.origin < times[1] + document.origin:
                reason = f"is empty or begins before the video: {times[0]} to {times[1]} ms"
            elif not label:
                reason = "has no text"
            else:
                rows.add(((times[0] + document.origin) / 1000, (times[1] + document.origin) / 1000, label))
                continue
            source.left_out.append((str(document.path), f"annotation {key} on tier {tier.name} {reason}"))
    return rows


def _times(key: str, everything: dict[str, tuple[_Tier, _Annotation]]) -> tuple[int, int] | None:
    """Return start and end of an annotation in milliseconds, without adding TIME_ORIGIN; None if they are unknown.

    An annotation on a tier with the constraint Symbolic_Association has the times of its parent.

    Args:
        key: id of the annotation.
        everything: each annotation of the file with its tier, by annotation id.
    """
    for _ in range(len(everything)):  # no more, if a file's references form a circle
        tier, annotation = everything[key]
        if annotation.times is not None:
            start, end = annotation.times
            return None if start is None or end is None else (start, end)
        if tier.constraint != ASSOCIATION or annotation.parent not in everything:
            return None
        key = annotation.parent
    return None


def _read_document(path: Path) -> _Document:
    root = read_xml(path, "ELAN", NEEDED)
    header = root.find("HEADER")
    if root.tag != "ANNOTATION_DOCUMENT" or header is None:
        raise FarfieldError(f"{path} is not a file of ELAN: it has no <ANNOTATION_DOCUMENT> with <HEADER>. {NEEDED}")
    units = header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise FarfieldError(
            f"{path} has times in {units}; they must be in milliseconds. Save it again with a current version of ELAN."
        )
    slots = {slot.get("TIME_SLOT_ID", ""): slot.get("TIME_VALUE") for slot in root.iterfind("TIME_ORDER/TIME_SLOT")}
    times = {name: None if value is None else _whole(value, f"{path}, {name}") for name, value in slots.items()}
    constraints = {each.get("LINGUISTIC_TYPE_ID"): each.get("CONSTRAINTS") for each in root.iterfind("LINGUISTIC_TYPE")}
    videos, origin = _video(header, path)
    document = _Document(path, videos, origin)
    for node in root.iterfind("TIER"):
        kind = node.get("LINGUISTIC_TYPE_REF", "")
        annotations = {
            each.get("ANNOTATION_ID", ""): _annotation(each, times, path) for each in node.iterfind("ANNOTATION/*")
        }
        is_root = node.get("PARENT_REF") is None
        document.tiers.append(_Tier(node.get("TIER_ID", ""), kind, constraints.get(kind), is_root, annotations))
    return document


def _annotation(node: ElementTree.Element, times: dict[str, int | None], path: Path) -> _Annotation:
    value = node.findtext("ANNOTATION_VALUE") or ""
    if node.tag != "ALIGNABLE_ANNOTATION":
        return _Annotation(value, None, node.get("ANNOTATION_REF"))
    slots = [node.get(f"TIME_SLOT_REF{number}", "") for number in (1, 2)]
    if missing := [slot for slot in slots if slot not in times]:
        raise FarfieldError(
            f"{path}, annotation {node.get('ANNOTATION_ID')}: there is no time slot {missing[0]!r}. {NEEDED}"
        )
    return _Annotation(value, (times[slots[0]], times[slots[1]]), None)


def _video(header: ElementTree.Element, path: Path) -> tuple[list[str], int]:
    """Return the paths at which an .eaf file's video may be, and the TIME_ORIGIN in milliseconds.

    If the .eaf file names no video, the only path is the file's own name with the suffix .mp4.
    """
    media = header.findall("MEDIA_DESCRIPTOR")
    urls = [[each.get(key, "") for key in ("MEDIA_URL", "RELATIVE_MEDIA_URL")] for each in media]
    for node, given in zip(media, urls, strict=True):
        paths = [_path_of_url(url) for url in given if url]
        if node.get("MIME_TYPE", "").startswith("video") or any(map(has_video_suffix, map(Path, paths))):
            origin = _whole(node.get("TIME_ORIGIN", "0"), f"{path}, TIME_ORIGIN")
            names = dict.fromkeys(each for url in paths for each in (url, unquote(url)))
            return list(names) or [f"{path.stem}.mp4"], origin
    return [f"{path.stem}.mp4"], 0


def _path_of_url(url: str) -> str:
    return url.removeprefix("file://") if url.startswith("file:") else url


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FarfieldError(f"{where} is {text!r}; it must be a whole number of milliseconds. {NEEDED}") from None
