"""Read Charades' CSV: one row per video with its actions and their times.

    id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
    A1B2C,XY12,Kitchen,6,7,Yes,"A person cooks, then leaves.",stove,...,c092 11.90 21.20;c147 0.00 12.60,24.83

Charades.zip (prior.allenai.org/projects/charades) holds Charades_v1_train.csv, Charades_v1_test.csv and
Charades_v1_classes.txt with 157 lines `c000 Holding some clothes` to `c156 Someone is eating something`, line 135 with
a trailing space (copy in YuqiZhang2020/SEAD at 3475c34; other copies word c002 differently). Both CSV files list
actions. 9,848 videos of 267 people have 66,500 actions (dataset card HuggingFaceM4/charades). Texts with commas are
quoted, and `actions` and `relevance` may be empty (train.csv in DhanashreeA/KRProject at 09a3090). Many actions end
after `length`, for example at 32.00 s in a video of 31.38 s; the authors clip them (gsig/charades-algorithms, issue 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.segments import clip_segment, parse_seconds, parse_segment
from farfield.curation.text_files import read_csv, read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

COLUMNS = ("id", "subject", "actions", "length")
NEEDED = "Give Charades_v1_train.csv or Charades_v1_test.csv of Charades.zip."


def read_charades(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read Charades' CSV; yield a row for each action.

    A video without actions has one row with an empty label. Labels are class names if `source.labels` is given,
    otherwise codes such as c092. The row's `group` is the person in the video. Actions are clipped to the video's
    length. An action whose segment is empty, before or after clipping, is left out and reported.

    Raises:
        FarfieldError: for a file in another format, a malformed action, or a class that `source.labels` lacks.
    """
    names = None if source.labels is None else read_classes(source.labels)
    rows = list(read_rows(source.annotations))
    source.skip_not_annotated({row["id"] for _, row in rows})
    for line, row in rows:
        where = f"{source.annotations}, line {line}"
        path = source.find_video(row["id"])
        if path is None:
            continue
        length = parse_seconds(row["length"])
        if length is None:
            raise FarfieldError(f"{where}: length is {row['length']!r}; it must be a number of seconds.")
        actions = [action.strip() for action in row["actions"].split(";") if action.strip()]
        if not actions:
            yield VideoRecord(path, "", group=row["subject"] or None)
        for action in actions:
            code, start, end = parse_action(action, where)
            if names is not None and code not in names:
                raise FarfieldError(f"{where}: {source.labels} has no class {code!r}. Give Charades_v1_classes.txt.")
            segment = clip_segment(start, end, length)
            if isinstance(segment, str):
                source.left_out.append((row["id"], f"the action {action!r} {segment}"))
            else:
                yield VideoRecord(path, code if names is None else names[code], *segment, group=row["subject"] or None)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) for each row of Charades' CSV."""
    if re.match(r"original_vide?o_id\s", read_text(path, NEEDED)):
        raise FarfieldError(f"{path} is PySlowFast's list of Charades' frames, not a list of videos. {NEEDED}")
    yield from read_csv(path, COLUMNS, NEEDED)


def parse_action(action: str, where: str) -> tuple[str, float, float]:
    """Parse an action such as `c092 11.90 21.20`; return its code, and its start and end in seconds.

    `where` names the row in error messages.
    """
    code, *times = action.split()
    segment = parse_segment(times)
    if segment is None or not re.fullmatch(r"c\d{3}", code):
        raise FarfieldError(
            f"{where}: {action!r} must be `class start end` with times in seconds, such as `c092 11.90 21.20`."
        )
    return code, *segment


def read_classes(path: Path) -> dict[str, str]:
    """Return the class name of each code, from a file with lines `c000 Holding some clothes`."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "Give Charades_v1_classes.txt.").split("\n"), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(c\d{3})\s+(\S.*)", line.strip())
        if found is None or found[1] in names or found[2] in names.values():
            raise FarfieldError(
                f"{path}, line {number}: {line!r} must be a code and a name, such as `c000 Holding some clothes`, and "
                "no other line may have this code or this name. Give Charades_v1_classes.txt."
            )
        names[found[1]] = found[2]
    return names
