"""HTML parts of the server's page; that they escape text is tested in test_rendering.py."""

from __future__ import annotations

import pytest

from farfield.reports.overlapping_labels import assign_lanes
from farfield.reports.page_fragments import (
    COLOURS,
    MAX_TICKS,
    OTHER_COLOUR,
    note_html,
    ranking_html,
    scale_ticks,
    timeline_html,
)


def test_segments_are_placed_and_sized_by_their_seconds() -> None:
    def segment(start: float, end: float, label: str) -> dict:
        return {"start_seconds": start, "end_seconds": end, "label": label, "probability": 0.875}

    page = timeline_html([segment(0, 2, "a"), segment(2, 7, "b"), segment(7, 8, "a")], 10.0)
    page = " ".join(page.split())
    assert 'data-seconds="2.000" title="b, 2.0 s to 7.0 s, 88%"' in page
    assert "left:20.000%;width:50.000%" in page
    assert page.index("b <span") < page.index("a <span")  # the legend, longest first
    assert "5.0 s</span>" in page
    assert "3.0 s</span>" in page
    assert '<span style="left:20.000%">2</span>' in page  # a tick
    assert timeline_html([], 0.0).count("<button") == 0


def test_segments_that_overlap_have_lanes() -> None:
    spans = [(0, 3, "a"), (1, 2, "b"), (1.5, 4, "c"), (3, 5, "d"), (4, 6, "b"), (4, 5, "e"), (6, 7, "c")]
    lanes = assign_lanes(spans)
    assert lanes == [0, 1, 2, 0, 1, 2, 2]  # b and c come back to their lanes
    assert assign_lanes([(0, 1, "a"), (1, 2, "b"), (3, 4, "a")]) == [0, 0, 0]
    names = ("start_seconds", "end_seconds", "label")
    segments = [dict(zip(names, span, strict=True)) | {"probability": 0.5} for span in spans]
    page = " ".join(timeline_html(segments, 8.0).split())
    assert page.count("top:33.333%;height:33.333%") == 2
    assert 'style="height:4.80rem"' in page
    assert "top:" not in timeline_html(segments[:1], 8.0)


def test_labels_above_and_below_their_thresholds_are_apart() -> None:
    ranking = [
        {"label": "<a>", "probability": 0.75, "above_threshold": True},
        {"label": "b", "probability": 0.5, "above_threshold": False},
        {"label": "c", "probability": 0.25, "above_threshold": True},
    ]
    page = ranking_html(ranking, multilabel=True)
    places = [page.index(text) for text in ("&lt;a&gt;", ">c<", "Below their thresholds", ">b<")]
    assert places == sorted(places)
    assert "None of the classes" not in page
    none = ranking_html(ranking[1:2], multilabel=True)
    assert none.index("None of the classes") < none.index(">b<")
    assert "Below" not in ranking_html(ranking[:1], multilabel=True)
    assert "Below" not in ranking_html(ranking)


def test_labels_beyond_the_palette_share_a_colour() -> None:
    segments = [
        {"start_seconds": float(i), "end_seconds": float(i + 1), "label": f"label {i}", "probability": 0.5}
        for i in range(len(COLOURS) + 2)
    ]
    page = timeline_html(segments, float(len(segments)))
    assert [page.count(colour) for colour in COLOURS] == [2] * len(COLOURS)  # the segment and the legend
    assert page.count(OTHER_COLOUR) == 4


@pytest.mark.parametrize("length", [0.07, 0.5, 2.0, 9.9, 61.0, 3600.0, 30 * 86400.0])
def test_a_scale_has_few_distinct_ticks_within_its_length(length: float) -> None:
    ticks = scale_ticks(length)
    assert 3 <= len(ticks) <= MAX_TICKS + 1
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(0 <= seconds < length for seconds, _ in ticks)
    assert all(float(text.removesuffix(" s")) == pytest.approx(seconds) for seconds, text in ticks)


@pytest.mark.parametrize(("length", "second"), [(0.3, "0.05"), (0.5, "0.1"), (5.0, "1"), (3.9, "0.5")])
def test_ticks_have_as_many_digits_as_they_need(length: float, second: str) -> None:
    assert scale_ticks(length)[1][1] == second


def test_a_failure_is_said_in_words() -> None:
    assert note_html("") == ""
    assert "did not work" not in note_html("a")
    assert "<strong>That did not work.</strong> a" in note_html("a", failed=True)
