from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.curation.group_assignment import assign
from farfield.curation.split import split
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

PARTS = ("train", "val", "test")


def collection(videos: int = 20, classes: int = 3, people: int | None = None) -> list[VideoRecord]:
    """Rows with a person each if `people` is given: every person does every action."""
    rows = []
    for number in range(videos):
        for label in ("bend", "jump", "walk")[:classes]:
            person = None if people is None else f"p{number % people}"
            rows.append(VideoRecord(f"{label}/{person or 'v'}_{label}_{number}.mp4", label, group=person))
    return rows


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[VideoRecord], name: str = "all.csv") -> Path:
        write_manifest(tmp_path / name, rows)
        return tmp_path / name

    return write


def rows_of(paths: Mapping[str, Path]) -> dict[str, list[VideoRecord]]:
    return {name: list(read_manifest(path)) for name, path in paths.items()}


def where(paths: Mapping[str, Path]) -> dict[str, str]:
    return {record.path: name for name, rows in rows_of(paths).items() for record in rows}


def test_each_class_is_divided_by_the_fractions(manifest: Callable[..., Path]) -> None:
    made = split(manifest(collection(videos=20)))
    assert list(made.manifests) == list(PARTS)
    assert made.videos == {"train": 42, "val": 9, "test": 9}
    assert made.classes == {label: {"train": 14, "val": 3, "test": 3} for label in ("bend", "jump", "walk")}
    split_rows = rows_of(made.manifests)
    assert sorted(r.path for rows in split_rows.values() for r in rows) == sorted(r.path for r in collection(20))
    assert {name: len(rows) for name, rows in split_rows.items()} == made.videos


def test_the_seed_decides_and_the_order_of_rows_does_not(manifest: Callable[..., Path], tmp_path: Path) -> None:
    rows = collection()
    first = where(split(manifest(rows), tmp_path / "a").manifests)
    placed = {Path(path).name: name for path, name in first.items()}
    again = where(split(manifest(rows[::-1], "reversed.csv"), tmp_path / "b").manifests)
    assert {Path(path).name: name for path, name in again.items()} == placed
    other = where(split(manifest(rows), tmp_path / "c", seed=1).manifests)
    assert {Path(path).name: name for path, name in other.items()} != placed


def test_groups_are_whole_by_column_and_by_expression(manifest: Callable[..., Path], tmp_path: Path) -> None:
    source = manifest(collection(videos=18, people=9))
    by_column = split(source, tmp_path / "a", fractions=[2 / 3, 1 / 3])
    assert by_column.videos == {"train": 36, "val": 18}
    assert by_column.groups == 9
    people = {name: {row.group for row in rows} for name, rows in rows_of(by_column.manifests).items()}
    assert not people["train"] & people["val"]
    ungrouped = manifest([VideoRecord(row.path, row.label) for row in read_manifest(source)], "ungrouped.csv")
    by_name = split(ungrouped, tmp_path / "b", fractions=[2 / 3, 1 / 3], group="^(p[0-9]+)_")
    by_path = split(ungrouped, tmp_path / "c", fractions=[2 / 3, 1 / 3], group="/(p[0-9]+)_")
    assert where(by_name.manifests) == where(by_path.manifests) == where(by_column.manifests)
    text = source.read_text().replace("path,label,group", "path,label,person")
    source.write_text(text)
    with pytest.raises(FarfieldError, match=r"column 'person', .* \(--group person\)\. Otherwise remove the column\."):
        split(source, tmp_path / "d", fractions=[2 / 3, 1 / 3])
    other_column = split(source, tmp_path / "d", fractions=[2 / 3, 1 / 3], group="person")
    assert where(other_column.manifests) == where(by_column.manifests)


def test_segments_of_one_video_stay_together(manifest: Callable[..., Path]) -> None:
    rows = [
        VideoRecord(f"{video}.mp4", label, start, start + 2)
        for video in range(12)
        for label, start in (("a", 0.0), ("b", 2.0), ("a", 4.0))
    ]
    made = split(manifest(rows), fractions=[0.5, 0.5])
    parts = rows_of(made.manifests)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 18, "val": 18}
    assert not {row.path for row in parts["train"]} & {row.path for row in parts["val"]}


def test_a_video_in_two_spellings_stays_together(manifest: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    spellings = ("lots/{}.mp4", "./lots/{}.mp4", str(tmp_path / "lots/{}.mp4"), "link/lots/{}.mp4")
    rows = [
        VideoRecord(each.format(video), "a", 2 * n, 2 * n + 2)
        for video in range(12)
        for n, each in enumerate(spellings)
    ]
    made = split(manifest(rows), fractions=[0.5, 0.5])
    assert made.groups == 12
    parts = {name: {Path(row.path).name for row in rows} for name, rows in rows_of(made.manifests).items()}
    assert (len(parts["train"]), len(parts["val"])) == (6, 6)
    assert not parts["train"] & parts["val"]


def test_new_videos_move_no_old_one(manifest: Callable[..., Path], tmp_path: Path) -> None:
    rows = collection(videos=40)
    source = manifest(rows[:-12])
    before = where(split(source).manifests)
    manifest(rows)
    made = split(source)
    after = where(made.manifests)
    assert made.kept == len(rows) - 12
    assert {path: after[path] for path in before} == before
    assert made.classes == {label: {"train": 28, "val": 6, "test": 6} for label in ("bend", "jump", "walk")}
    manifest(rows[5:])  # a video that is no longer there leaves
    assert where(split(source).manifests) == {row.path: after[row.path] for row in rows[5:]}


def test_folds_test_each_video_once(manifest: Callable[..., Path], tmp_path: Path) -> None:
    made = split(manifest(collection(videos=18, people=9)), tmp_path / "folds", folds=3)
    assert list(made.manifests)[:2] == ["fold_1/train", "fold_1/test"]
    parts = {name: {Path(row.path).name for row in rows} for name, rows in rows_of(made.manifests).items()}
    everything = {Path(row.path).name for row in collection(videos=18, people=9)}
    tested = [parts[f"fold_{fold}/test"] for fold in (1, 2, 3)]
    assert Counter(name for part in tested for name in part) == Counter(everything)
    for fold in (1, 2, 3):
        assert parts[f"fold_{fold}/train"] == everything - parts[f"fold_{fold}/test"]
    extended = split(manifest(collection(videos=18, people=9)), tmp_path / "folds", folds=3)
    assert extended.kept == 9


LABELS = "abcd"


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.tuples(st.sampled_from(LABELS), st.integers(1, 6)), min_size=1, max_size=120),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2), (0.2, 0.2, 0.2, 0.2, 0.2), (0.05, 0.95)]),
    seed=st.integers(0, 5),
    new=st.integers(0, 12),
)
def test_shares_are_within_one_group_and_groups_stay(
    sizes: list[tuple[str, int]], shares: tuple[float, ...], seed: int, new: int
) -> None:
    names = [str(part) for part in range(len(shares))]
    counts = {f"group g{number}": {label: size} for number, (label, size) in enumerate(sizes)}
    groups_of = Counter(label for label, _ in sizes)
    if min(groups_of.values()) < len(shares):
        with pytest.raises(FarfieldError, match="some classes have fewer groups than"):
            assign(counts, shares, names=names, seed=seed)
        return
    chosen = assign(counts, shares, names=names, seed=seed)
    check_shares(counts, chosen, shares)
    more = counts | {f"group n{number}": {sizes[number % len(sizes)][0]: 2} for number in range(new)}
    kept = assign(more, shares, names=names, seed=seed, fixed={key: names[part] for key, part in chosen.items()})
    assert {key: kept[key] for key in chosen} == chosen


def check_shares(counts: dict[str, dict[str, int]], chosen: dict[str, int], shares: tuple[float, ...]) -> None:
    got: dict[str, Counter[int]] = defaultdict(Counter)
    for key, of_group in counts.items():
        for label, number in of_group.items():
            got[label][chosen[key]] += number
    for label, parts in got.items():
        assert set(parts) == set(range(len(shares)))  # each part has the class
        largest = max(of_group.get(label, 0) for of_group in counts.values())
        total = parts.total()
        if total * min(shares) < largest:
            continue  # a part whose share is smaller than a group gets one nevertheless
        for part, share in enumerate(shares):
            assert abs(parts[part] - share * total) <= largest + 1e-9


def test_groups_of_several_classes_are_divided_evenly() -> None:
    counts = {f"group {person}": dict.fromkeys("abcdef", 1 + person % 2) for person in range(40)}
    chosen = Counter(assign(counts, (0.7, 0.15, 0.15), names=PARTS).values())
    assert [chosen[part] for part in range(3)] == pytest.approx([28, 6, 6], abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": [0.7, 0.2]}, r"fractions is \[0.7, 0.2\]. Give positive numbers that add up to 1"),
        ({"fractions": [1.2, -0.2]}, "Give positive numbers"),
        ({"fractions": [1.0]}, r"fractions is \[1.0\]. Give 2 or 3"),
        ({"fractions": [0.5, 0.5], "names": ["a", "a"]}, "must hold a different name for each of the 2 fractions"),
        ({"fractions": [0.5, 0.5], "names": ["a", "../b"]}, "names has '../b', which cannot be the name of a manifest"),
        ({"folds": 1}, "folds is 1; it must be at least 2"),
        ({"folds": 2, "fractions": [0.5, 0.5]}, "folds is given together with fractions"),
        (
            {"group": "^(x+)_"},
            r"group '\^\(x\+\)_' is not a column of the manifest, .* finds nothing in 'v_bend_0.mp4'",
        ),
        ({"group": "("}, "neither a column of the manifest nor a regular expression"),
        ({"group": "^(v)_"}, r"fewer groups than there are splits \(3: .*'bend' has 1, 'jump' has 1, 'walk' has 1"),
        ({"fractions": [0.5, 0.5], "names": ["all", "rest"]}, "would be overwritten by one of the splits"),
    ],
)
def test_mistakes_are_clear(manifest: Callable[..., Path], options: dict, message: str) -> None:
    source = manifest(collection())
    before = sorted(source.parent.iterdir())
    with pytest.raises(FarfieldError, match=message):
        split(source, **options)
    assert sorted(source.parent.iterdir()) == before


def test_other_files_and_other_splits_are_not_replaced(manifest: Callable[..., Path], tmp_path: Path) -> None:
    source = manifest(collection())
    mine = tmp_path / "val.csv"
    mine.write_text("path,label\nmine.mp4,bend\n")
    with pytest.raises(FarfieldError, match=r"val\.csv exists, but .*: split\.json is missing"):
        split(source)
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(FarfieldError, match=r"val\.csv exists, but .*: split\.json does not describe a split"):
        split(source)
    (tmp_path / "split.json").unlink()
    assert mine.read_text().count("\n") == 2
    mine.unlink()
    first = split(source)
    with pytest.raises(FarfieldError, match=r"holds a split made with other options: seed was 0 and is now 3\. "):
        split(source, seed=3)
    assert where(first.manifests) != where(split(source, seed=3, overwrite=True).manifests)
    assert json.loads((tmp_path / "split.json").read_text())["seed"] == 3


def test_a_class_that_an_earlier_split_keeps_out_of_a_part_is_refused() -> None:
    """Another seed cannot help: all groups of the class are assigned already."""
    counts = {"group a": {"walk": 1}, "group b": {"walk": 1}}
    with pytest.raises(FarfieldError, match=r"val would have no video of the class 'walk': .* Give overwrite=True"):
        assign(counts, (0.5, 0.5), names=("train", "val"), fixed=dict.fromkeys(counts, "train"))


def test_a_group_that_the_earlier_split_divides_is_refused(manifest: Callable[..., Path], tmp_path: Path) -> None:
    source = manifest(collection(videos=12, people=6))
    made = split(source, fractions=[0.5, 0.5])
    moved = list(read_manifest(made.manifests["val"]))
    write_manifest(made.manifests["train"], [*read_manifest(made.manifests["train"]), moved[0]])
    write_manifest(made.manifests["val"], moved[1:])
    with pytest.raises(FarfieldError, match=r"the earlier split has videos of group p[0-9] in train and val"):
        split(source, fractions=[0.5, 0.5])


def test_two_groups_for_one_video_are_refused(manifest: Callable[..., Path]) -> None:
    rows = [*collection(people=5), VideoRecord("bend/p0_bend_0.mp4", "bend", 1, 2, group="p1")]
    with pytest.raises(FarfieldError, match=r"p0_bend_0\.mp4 has rows of two groups: 'p0' and 'p1'"):
        split(manifest(rows))


def test_the_command_names_siblings_and_takes_lists(
    manifest: Callable[..., Path], run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [VideoRecord(f"v_Bend_g{g:02}_c{c:02}.avi", "Bend") for g in range(6) for c in range(3)]
    source = manifest(rows)
    assert run_farfield("data", "split", source, "--fractions", "0.5", "0.5", "--names", "fit", "check", "--json") == 0
    shown = capsys.readouterr()
    assert "v_Bend_g00_c00.avi and v_Bend_g00_c01.avi look like videos of one source" in shown.err
    assert "18 file names show 6 sources" in shown.err
    made = json.loads(shown.out)
    assert made["videos"] == {"fit": 9, "check": 9}
    assert (
        run_farfield(
            "data", "split", source, "--fractions=[0.5, 0.5]", "--group", made["siblings"]["pattern"], "--overwrite"
        )
        == 0
    )
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "train.csv: 9 rows of 1 classes" in shown.out
    assert "6 groups" in shown.out


def test_the_command_counts_videos_without_a_group_not_their_rows(
    manifest: Callable[..., Path], run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    segments = [VideoRecord("long.mp4", "bend", start, start + 1) for start in (0.0, 1.0)]
    assert run_farfield("data", "split", manifest([*collection(people=9), *segments])) == 0
    assert capsys.readouterr().err == "videos without a group: 1; each counts as a group of its own\n"


def test_a_split_is_extended_through_links_and_other_spellings(manifest: Callable[..., Path], tmp_path: Path) -> None:
    source = manifest(collection(videos=20))
    (tmp_path / "out").mkdir()
    first = split(source, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path)
    again = split(tmp_path / "link" / "all.csv", tmp_path / "out" / ".." / "out")
    assert again.kept == first.groups
    assert where(again.manifests).keys() == where(first.manifests).keys()
    other = manifest([VideoRecord(f"{i}.mp4", "a") for i in range(9)], "other.csv")
    with pytest.raises(FarfieldError, match=r"no row of the earlier split is in .*other\.csv"):
        split(other, tmp_path / "out")


def test_groups_are_counted_and_asked_for(manifest: Callable[..., Path], tmp_path: Path) -> None:
    rows = collection(people=9)
    assert split(manifest(rows[:-3] + [replace(row, group=None) for row in rows[-3:]])).ungrouped == 3
    with pytest.raises(
        FarfieldError, match=r"group is 'group', but the column 'group' of .*plain\.csv is missing or empty"
    ):
        split(manifest(collection(), "plain.csv"), tmp_path / "a", group="group")


def test_labels_of_a_row_count_each(manifest: Callable[..., Path]) -> None:
    rows = [VideoRecord(f"{i}.mp4", label) for i, label in enumerate(["a|b", "a", "", "b"] * 10)]
    made = split(manifest(rows), fractions=[0.5, 0.5])
    assert made.classes[""] == {"train": 5, "val": 5}
    assert {label: sum(counts.values()) for label, counts in made.classes.items()} == {"": 10, "a": 20, "b": 20}
    assert all(abs(made.classes[label]["train"] - 10) <= 1 for label in "ab")


@pytest.mark.parametrize("seed", range(10))
def test_other_orders_are_tried_until_each_part_has_each_class(seed: int) -> None:
    """The first order fails with half of these seeds."""
    labels = "abcdefghij"
    counts = {f"group {i}": {labels[(i + step) % 10]: 1 for step in range(3)} for i in range(20)}
    chosen = assign(counts, (0.6, 0.2, 0.2), names=PARTS, seed=seed)
    for part in range(3):
        assert {label for key, of_group in counts.items() if chosen[key] == part for label in of_group} == set(labels)


def test_the_order_of_rows_changes_nothing() -> None:
    rng = random.Random(5)
    for trial in range(300):
        rows = [(f"video {i}", rng.choice("abcde"[: rng.randint(2, 5)])) for i in range(rng.randint(15, 40))]
        counts = [{video: {label: 1} for video, label in order} for order in (rows, rng.sample(rows, len(rows)))]
        if min(Counter(label for _, label in rows).values()) >= len(PARTS):
            found = [assign(each, [1 / 3] * 3, names=PARTS, seed=trial) for each in counts]
            assert found[0] == found[1], trial
