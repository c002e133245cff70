"""Read projects of VIA 3, the VGG Image Annotator for images, audio and video (gitlab.com/vgg/via, via-3.x.y).

    {"project": {...}, "attribute": {"1": {"aname": "Activity", "anchor_id": "FILE1_Z2_XY0", "type": 4,
       "options": {"1": "jump", "2": "run"}}},
     "file": {"1": {"fid": 1, "fname": "a.mp4", "type": 4, "loc": 2, "src": "https://example.org/a.mp4"}},
     "view": {"1": {"fid_list": [1]}},
     "metadata": {"1_x7Ab": {"vid": "1", "flg": 0, "z": [2, 6.5], "xy": [], "av": {"1": "2"}}}}

According to VIA's own code (_via_data.js of 3.1.1, _via_attribute.js, _via_file.js) and its annotated sample project:

- `z` is in seconds: [start, end] for a segment (anchor FILE1_Z2_XY0), [] for the file (FILE1_Z0_XY0), one number for a
  frame. `xy` is a region; attributes of regions and frames are not read.
- `vid` is the id of a view, not of a file; the view's `fid_list` names the file, by a number or a text.
- `av` holds the value of each attribute. Its form depends on the attribute's `type`: the text itself for type 1 (text);
  ids of options, separated by commas, for 2 (checkbox); the id of one option for 3 (radio), 4 (select) and 5 (image).
  Ids of options count from 0 or from 1, depending on how the project was made.
- `src` is the location and `fname` the displayed name. Files from the browser's file selector have only `fname`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.curation.formats.tool_export import checked, choose, find_videos, join_labels
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

NEEDED = "Give the JSON file of a VIA 3 project."

ANCHORS = {"FILE1_Z2_XY0", "FILE1_Z0_XY0"}
"""Anchors that are read: a segment of a file, and a whole file."""
TEXT, CHECKBOX = 1, 2
VIDEO = 4


@dataclass(frozen=True)
class _Value:
    """Value of one attribute for a segment or for a whole file.

    Attributes:
        view: id of the view; the project's entry `view` maps it to the file.
        attribute: name of the attribute.
        label: label, or several labels joined by `|`.
        z: (start, end) of the segment in seconds; () for the whole file.
    """

    view: str
    attribute: str
    label: str
    z: tuple[float, float] | tuple[()]


def read_via(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a project of VIA 3; yield a row for each labelled segment, and for each label of a whole file.

    Raises:
        FarfieldError: for a file in another format, several attributes without `label_column`, or an unknown option or
            view.
    """
    path = source.annotations
    project = checked(read_json(path, NEEDED), dict, f"{path}: its content")
    if "_via_img_metadata" in project or "view" not in project:
        raise FarfieldError(
            f"{path} is not a project of VIA 3: it has no key 'view' (projects of VIA 2 have none). {NEEDED}"
        )
    values = list(_values(source, project))
    attribute = choose(source.label_column, [value.attribute for value in values], "attribute", source)
    names = _video_names(source, project)
    by_name: dict[str, list[_Value]] = {name: [] for name in names.values()}
    for value in values:
        if value.attribute == attribute and value.view in names:
            by_name[names[value.view]].append(value)
    for name, video in find_videos(source, {name: [name] for name in by_name}).items():
        if not by_name[name]:
            source.left_out.append((name, NO_LABEL))
        for value in sorted(by_name[name], key=lambda value: value.z):
            if value.z and not 0 <= value.z[0] < value.z[1]:
                source.left_out.append((name, f"its segment {list(value.z)} of {value.label} is empty"))
            else:
                start, end = value.z or (None, None)
                yield VideoRecord(video, value.label, start, end)


def _values(source: AnnotationSource, project: dict[str, Any]) -> Iterator[_Value]:
    """Yield the labels of all segments and whole files of a project."""
    path = source.annotations
    attributes = _objects(project, "attribute", source)
    views = _objects(project, "view", source)
    for identifier, about in _objects(project, "metadata", source).items():
        where = f"{path}, metadata {identifier}"
        view = str(about.get("vid"))
        if view not in views:
            raise FarfieldError(f"{where}: vid is {view!r}, but there is no such view. {NEEDED}")
        z = tuple(checked(number, float, f"{where}: z") for number in checked(about.get("z"), list, f"{where}: z"))
        if about.get("xy") or len(z) not in (0, 2):
            continue
        span = (z[0], z[1]) if z else ()
        for attribute, given in checked(about.get("av"), dict, f"{where}: av").items():
            if attribute not in attributes:
                raise FarfieldError(f"{where}: there is no attribute {attribute!r}. {NEEDED}")
            if attributes[attribute].get("anchor_id") not in ANCHORS:
                continue
            label = _label(attributes[attribute], checked(given, str, f"{where}: av.{attribute}"), where)
            if label:
                yield _Value(view, str(attributes[attribute].get("aname", attribute)), label, span)


def _label(attribute: dict[str, Any], given: str, where: str) -> str:
    """Return the label for an attribute's value `given`; the names of several chosen options are joined by `|`."""
    kind = attribute.get("type")
    if kind == TEXT:
        return join_labels([given], where)
    options = checked(attribute.get("options"), dict, f"{where}: options")
    chosen = [each for each in (given.split(",") if kind == CHECKBOX else [given]) if each]
    for each in chosen:
        if each not in options:
            raise FarfieldError(
                f"{where}: {attribute.get('aname')} is {each!r}, which is none of its options {', '.join(options)}. "
                "Add the option, or correct the value."
            )
    return join_labels([checked(options[each], str, f"{where}: option {each}") for each in chosen], where)


def _video_names(source: AnnotationSource, project: dict[str, Any]) -> dict[str, str]:
    """Return the name of each view's video, by view id.

    These views have no entry, and are added to `source.left_out`: views of no file or of several, views of a file that
    is not a video, and views of a file whose name occurs several times in the project.
    """
    files = _objects(project, "file", source)
    located = {number: _location(about, f"{source.annotations}, file {number}") for number, about in files.items()}
    count = Counter(located.values())
    names: dict[str, str] = {}
    for view, about in _objects(project, "view", source).items():
        where = f"{source.annotations}, view {view}"
        ids = [str(each) for each in checked(about.get("fid_list"), list, f"{where}: fid_list")]
        if missing := [each for each in ids if each not in files]:
            raise FarfieldError(f"{where}: there is no file {missing[0]!r}. {NEEDED}")
        if len(ids) != 1:
            source.left_out.append((f"view {view}", f"it shows {len(ids)} files instead of one"))
        elif files[ids[0]].get("type") != VIDEO:
            source.left_out.append((located[ids[0]], "it is not a video"))
        elif count[located[ids[0]]] > 1:
            source.left_out.append((located[ids[0]], "several files of the project have this name"))
        else:
            names[view] = located[ids[0]]
    return names


def _location(file: dict[str, Any], where: str) -> str:
    src = str(file.get("src") or "")
    if not src or src.startswith("data:"):
        return checked(file.get("fname"), str, f"{where}: fname")
    return unquote(urlsplit(src).path) if "://" in src else src


def _objects(project: dict[str, Any], name: str, source: AnnotationSource) -> dict[str, dict[str, Any]]:
    where = f"{source.annotations}: {name}"
    found = checked(project.get(name), dict, where)
    return {identifier: checked(about, dict, f"{where} {identifier}") for identifier, about in found.items()}
