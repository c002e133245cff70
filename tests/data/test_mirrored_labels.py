from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import TrainingClips
from farfield.data.manifest import read_manifest
from farfield.data.mirrored_labels import flipped_labels, mirrored_classes
from farfield.data.samplers import SampleKey
from farfield.errors import FarfieldError

SPEC = ClipSpec(num_frames=2, crop_px=24)
TO_RIGHT, TO_LEFT = "Pushing something from left to right", "Pushing something from right to left"
SIDES = [
    "Putting something upright on the table", TO_RIGHT, "turn_right", "Swiping Left", TO_LEFT, "TurnLeft", "turn_left",
    "Swiping Right", "TurnRight",
]  # fmt: skip


def test_names_that_differ_in_left_and_right_are_found_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "farfield"):
        found = flipped_labels(SIDES, Augmentation(), None)
    pairs = [
        (TO_RIGHT, TO_LEFT),
        ("turn_left", "turn_right"),
        ("Swiping Left", "Swiping Right"),
        ("TurnLeft", "TurnRight"),
    ]
    assert found == {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    assert len(caplog.messages) == 1
    for a, b in pairs:
        assert f"{a!r} and {b!r}" in caplog.text
    assert "upright" not in caplog.text
    assert mirrored_classes(SIDES, found).tolist() == [0, 4, 6, 7, 1, 8, 2, 3, 5]


def test_nothing_is_looked_for_without_flips_or_where_the_direction_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "farfield"):
        assert flipped_labels(SIDES, Augmentation(flip=False), None) == {}
        assert flipped_labels(SIDES, Augmentation(), {}) == {}
        assert (
            flipped_labels(["run left", "run right"], Augmentation(keep_direction=("run left", "run right")), None)
            == {}
        )
    assert not caplog.messages
    # Clips of the other class are still mirrored.
    with caplog.at_level(logging.INFO, "farfield"):
        half = flipped_labels(["run left", "run right"], Augmentation(keep_direction=("run left",)), None)
    assert half == {"run right": "run left"}
    assert "swap the labels 'run right' and 'run left'. To keep the labels" in caplog.text


def test_a_direction_without_its_opposite_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert flipped_labels(["turn left", "run"], Augmentation(), None) == {}
    assert "flipped clips of 'turn left' keep their labels, since there is no class for the opposite" in caplog.text


@pytest.mark.parametrize(
    ("given", "augmentation", "message"),
    [
        ({"bow": "bowl"}, Augmentation(), "swaps 'bow' and 'bowl', but 'bowl' is not a class.*Did you mean 'bow'"),
        ({"jump": "bow"}, Augmentation(), "swaps 'jump' and 'bow', but 'jump' is not a class"),
        ({"bow": "bow"}, Augmentation(), "swaps 'bow' with itself"),
        ({"bow": "run", "run": "sit"}, Augmentation(), "swaps 'run' with 'bow' and with 'sit'"),
        ({"bow": "run"}, Augmentation(flip=False), "flip_labels is given, but data.augmentation.flip is false"),
        ({"bow": "run"}, Augmentation(keep_direction=("run",)), "'run' is in data.augmentation.keep_direction"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(given: dict[str, str], augmentation: Augmentation, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        flipped_labels(["bow", "run", "sit"], augmentation, given)


def test_pairs_may_be_given_in_one_or_both_directions() -> None:
    one, both = {"bow": "run"}, {"run": "bow", "bow": "run"}
    assert flipped_labels(["bow", "run"], Augmentation(), one) == both
    assert flipped_labels(["bow", "run"], Augmentation(), both) == both


def test_flipped_clips_of_training_have_the_other_label(figures: Path) -> None:
    manifest = read_manifest(figures / "train.csv")
    a, b = manifest.labels[2], manifest.labels[5]
    keys = [SampleKey(epoch, row) for epoch in range(3) for row in range(len(manifest))]
    plain = TrainingClips(manifest, manifest.labels, SPEC, Augmentation(), seed=0)[keys]
    swapped = TrainingClips(manifest, manifest.labels, SPEC, Augmentation(), seed=0, flip_labels={a: b, b: a})[keys]
    assert plain.labels.tolist() == manifest.targets(manifest.labels)[plain.indices].tolist()
    assert swapped.draw is not None
    assert (swapped.clips == plain.clips).all()
    flipped = swapped.draw.flip.numpy()
    expected = [
        {2: 5, 5: 2}.get(label, label) if flip else label
        for label, flip in zip(plain.labels.tolist(), flipped, strict=True)
    ]
    assert swapped.labels.tolist() == expected
    assert 0 < np.sum(np.array(expected) != plain.labels.numpy()) < len(keys)


def test_a_resumed_run_has_the_same_flipped_labels(figures: Path) -> None:
    train = str(figures / "train.csv")
    pairs = {"bow": read_manifest(train).labels[-1]}
    before = VideoDataModule(train, clip=SPEC, num_workers=0).state_dict()
    assert before.pop("flip_labels") == {}  # as checkpoints of earlier versions
    VideoDataModule(train, clip=SPEC, num_workers=0).load_state_dict(before)
    now = VideoDataModule(train, clip=SPEC, num_workers=0, flip_labels=pairs)
    now.load_state_dict(now.state_dict())
    with pytest.raises(FarfieldError, match=r"flip_labels was \{\}, now \{'bow': .*Resume with the same"):
        now.load_state_dict(before)
    with pytest.raises(FarfieldError, match="but 'bowl' is not a class"):
        VideoDataModule(train, clip=SPEC, flip_labels={"bow": "bowl"})
