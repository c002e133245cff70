"""The truth of the task *untrimmed* against its frames."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from farfield.curation.prepare import prepare
from farfield.data.manifest import read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.synthetic import untrimmed
from farfield.synthetic.figures import FORWARD_ACTIONS, LABELS, MIRROR, Scene
from farfield.synthetic.synthesize import synthesize
from farfield.synthetic.untrimmed_schedule import FIDGETS, FPS, Crossing, Movement, Part, Schedule, draw_schedule
from farfield.video.decoders import open_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrimmed")
    return synthesize("untrimmed", folder / "data", num_train=2, num_val=2, num_test=6, progress=False)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the camera and the idle movements, so that every change of a pixel is a movement of the schedule."""
    monkeypatch.setattr(untrimmed, "IDLE", dict.fromkeys(untrimmed.IDLE, 0.0))
    monkeypatch.setattr(Scene, "shift", lambda scene, time: (0.0, 0.0))


def draw(*movements: Movement, before: str | None = None, crossings: tuple[Crossing, ...] = ()) -> np.ndarray:
    schedule = Schedule(70, (Part(before, movements),), crossings)
    return np.stack(list(untrimmed.render(schedule, np.random.default_rng(5))))


@pytest.mark.parametrize("label", LABELS)
def test_pixels_change_in_the_frames_of_an_action_and_not_outside(label: str, still: None) -> None:
    before = None if label in FORWARD_ACTIONS else MIRROR[label]
    frames = draw(Movement(label, 11, 40), before=before)
    changes = [not np.array_equal(a, b) for a, b in pairwise(frames)]  # from frame i to i + 1
    assert not any(changes[:10])
    assert not any(changes[40:])
    assert sum(changes[10:40]) >= 28  # an action begins and ends slowly, by less than a sixteenth of a pixel
    assert any(changes[10:12])
    assert any(changes[38:40])
    assert (np.abs(frames[9].astype(int) - frames[60]).max(-1) > 20).sum() > 60  # it ends in another pose


@pytest.mark.parametrize("label", sorted(FORWARD_ACTIONS))
def test_a_reversed_action_is_its_time_reversed_class(label: str, still: None) -> None:
    there = draw(Movement(label, 11, 40))
    back = draw(Movement(MIRROR[label], 30, 59), before=label)
    assert np.array_equal(there, back[::-1])


@pytest.mark.parametrize("label", LABELS)
def test_poses_are_those_of_figures(label: str) -> None:
    forward = label in FORWARD_ACTIONS
    action = FORWARD_ACTIONS[label if forward else MIRROR[label]]
    part = Part(None if forward else MIRROR[label], (Movement(label, 7, 20),))
    poses = list(untrimmed.poses(part, 31))
    for number, (pose, in_hand) in enumerate(poses):
        progress = min(max((number - 6) / 14, 0), 1)
        progress = progress if forward else 1 - progress
        assert pose == action.pose(progress)
        assert in_hand == (action.box_in_hand_from is not None and progress >= 0.5)


def test_fidgets_and_crossings_return_to_what_was_there(still: None) -> None:
    for name in FIDGETS:
        frames = draw(Movement(name, 20, 45, times=2))
        assert all(np.array_equal(frames[0], frames[i]) for i in (19, 45, 69))
        assert not np.array_equal(frames[0], frames[26])
    for kind in ("person", "ball", "crate"):
        frames = draw(crossings=(Crossing(kind, 10, 40),))
        changed = [not np.array_equal(frames[0], frame) for frame in frames]
        assert not any(changed[:10] + changed[40:])
        assert sum(changed[10:40]) > 15


def test_schedules_have_actions_pauses_overlaps_and_nothing() -> None:
    equal = different = quiet = 0
    for index in range(48):
        schedule = draw_schedule(index, np.random.default_rng(index))
        assert 20 <= schedule.num_frames / FPS <= (60 if index % 4 == 3 else 180)
        assert bool(schedule.actions) == (index % 6 != 5)
        assert [a.start for a in schedule.actions] == sorted(a.start for a in schedule.actions)
        for part in schedule.parts:
            check_part(part, schedule.num_frames)
        overlaps = (
            [
                (a.name, b.name)
                for a in schedule.parts[0].actions
                for b in schedule.parts[1].actions
                if a.start < b.end and b.start < a.end
            ]
            if len(schedule.parts) == 2
            else []
        )
        equal += sum(a == b for a, b in overlaps)
        different += sum(a != b for a, b in overlaps)
        acting = np.zeros(schedule.num_frames, bool)
        for action in schedule.actions:
            acting[action.start : action.end] = True
        quiet += bool((np.diff(np.flatnonzero(np.r_[True, acting, True])) > 12 * FPS).any())
    assert quiet > 20
    assert equal > 5
    assert different > 100


def check_part(part: Part, num_frames: int) -> None:
    pose_of = part.before
    end = 0
    for movement in part.movements:
        assert movement.start >= end + round(1.2 * FPS)
        assert movement.end - movement.start >= round(1.8 * FPS)
        end = movement.end
        if movement.name in FIDGETS:
            assert pose_of is None  # only who stands fidgets
        elif movement.name in FORWARD_ACTIONS:
            assert pose_of is None
            pose_of = movement.name
        else:
            assert pose_of == MIRROR[movement.name]
            pose_of = None
    assert end < num_frames


@pytest.mark.slow
def test_frames_are_reproducible(made: Path) -> None:
    """The hash was taken where the task was written; a change of it is a change of the data set."""
    kept = json.loads((made / "synthesis.json").read_text())
    assert kept["sha256_of_frames"]["val"] == "0705c92e2a55a8a5452cffa52e6930d091dfd189b9a72150f2082ba83dac766e"


@pytest.mark.slow
def test_the_manifest_lists_segments_and_empty_videos(made: Path) -> None:
    manifest = read_manifest(made / "test.csv")
    rows = {path: [row for row in manifest if row.path == path] for path in {row.path for row in manifest}}
    assert len(rows) == 6
    assert manifest.labels == LABELS
    (empty,) = (found for found in rows.values() if not found[0].label)
    assert len(empty) == 1
    assert empty[0].path == "videos/test_00005_none.mp4"
    assert empty[0].start_seconds is empty[0].end_seconds is None
    for row in manifest:
        assert row.duration_seconds == row.num_frames / row.fps
        if row.label:
            assert 0 < row.start_seconds < row.end_seconds < row.duration_seconds
            assert row.start_seconds * row.fps == pytest.approx(round(row.start_seconds * row.fps), abs=1e-9)


@pytest.mark.slow
def test_files_are_what_the_manifest_says(made: Path) -> None:
    manifest = read_manifest(made / "val.csv")
    rows = [row for row in manifest if row.path == manifest[0].path]
    with open_video(manifest.path(0)) as video:
        assert len(video.times) == rows[0].num_frames
        assert video.times[1] - video.times[0] == pytest.approx(1 / FPS)
        first = np.flatnonzero(np.isclose(video.times, rows[0].start_seconds))
        assert first.tolist() == [round(rows[0].start_seconds * FPS)]
        assert video.frames(np.array([0])).shape[1:3] == (rows[0].height, rows[0].width)


@pytest.mark.slow
def test_each_segment_can_be_cut_out(made: Path, tmp_path: Path) -> None:
    """`data prepare` makes a trimmed copy: one file a segment, with the segment's frames and its one label."""
    rows = [row for row in read_manifest(made / "test.csv") if row.label][::7]
    rows.sort(key=lambda row: f"{row.path[:-4]}_{row.start_seconds:g}_{row.end_seconds:g}.mp4")  # as the store's files
    write_manifest(made / "trimmed.csv", rows)
    prepare(made / "trimmed.csv", tmp_path / "store", num_workers=1, progress=False)
    trimmed = read_manifest(tmp_path / "store/manifest.csv")
    assert [row.label for row in trimmed] == [row.label for row in rows]
    assert (trimmed.targets(LABELS) >= 0).all()  # as networks of one class a video need it
    for number, row in enumerate(rows):
        start, end = round(row.start_seconds * FPS), round(row.end_seconds * FPS)
        with open_video(made / row.path) as whole, open_video(trimmed.path(number)) as cut:
            assert len(cut.times) == trimmed[number].num_frames == end - start
            kept, there = cut.frames(np.arange(end - start)), whole.frames(np.arange(start - 1, end + 1))
        frames, around = np.asarray(kept).astype(float), np.asarray(there).astype(float)
        earlier, same, later = (np.abs(frames - around[i : i + len(frames)]).mean() for i in range(3))
        assert same < 4  # of 255: it was encoded twice
        assert same < min(earlier, later)


def test_too_few_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match=r"\{'train': 48, 'val': 1, 'test': 16\}.*at least 2 videos"):
        synthesize("untrimmed", tmp_path / "new", num_val=1)
    with pytest.raises(FarfieldError, match=r"\{'train': 600, 'val': 3, 'test': 200\}.*one video per class"):
        synthesize("figures", tmp_path / "new", num_val=3)
