from __future__ import annotations

import pytest

from farfield.curation.groups import find_groups, find_siblings
from farfield.data.video_record import VideoRecord


def records(names: list[str], label: str = "a") -> list[VideoRecord]:
    return [VideoRecord(name, label) for name in names]


@pytest.mark.parametrize(
    ("names", "sources"),
    [
        ([f"v_Archery_g{g:02}_c{c:02}.avi" for g in range(4) for c in range(2)], 4),
        (
            [
                f"{video}_{start:06}_{start + 10:06}.mp4"
                for video in ("abcdefghijk", "-bcdef_hijk")
                for start in (1, 20)
            ],
            2,
        ),
        ([f"{video}_{start}.5_{start + 2}.25.mp4" for video in ("one", "two") for start in (1, 20)], 2),
        ([f"clip{video}_part{part}.mp4" for video in (11, 12, 13) for part in (1, 2)], 3),
        ([f"game {video} scene-{part}.mkv" for video in (11, 12, 13) for part in (1, 2)], 3),
    ],
)
def test_names_of_siblings_are_found(names: list[str], sources: int) -> None:
    found = find_siblings(records(names))
    assert found is not None
    assert (found.sources, found.videos) == (sources, len(names))
    assert set(found.example) <= set(names)
    grouped = find_groups(records(names), found.pattern)  # the pattern that is offered works
    assert len({record.group for record in grouped}) == sources


def test_a_person_before_the_action_is_found() -> None:
    rows = [VideoRecord(f"{who}_{label}.avi", label) for who in ("daria", "ido", "lena") for label in ("run", "walk")]
    found = find_siblings(rows)
    assert found is not None
    assert found.sources == 3


@pytest.mark.parametrize(
    "rows",
    [
        records([f"walk_{i:03}.mp4" for i in range(9)]),
        records([f"{i}.mp4" for i in range(9)]),
        records([f"clip_{i}.mp4" for i in range(9)]),
        [VideoRecord(f"{label}_{i}.mp4", label) for label in ("run", "walk", "sit") for i in range(9)],
        [VideoRecord(f"IMG_{i}.MOV", label) for i, label in enumerate("ababab")],
        [VideoRecord("long.mp4", "a", i, i + 1) for i in range(9)],  # segments of one video stay together anyway
    ],
    ids=lambda rows: rows[0].path,
)
def test_ordinary_names_are_no_siblings(rows: list[VideoRecord]) -> None:
    assert find_siblings(rows) is None
