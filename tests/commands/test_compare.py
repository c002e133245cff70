"""`farfield compare` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from farfield.evaluation.scores_file import Scores, write_scores

Run = Callable[..., int]
LABELS = ["bow", "climb", "dive", "jump", "run", "swim", "wave"]
ORDER = [3, 0, 6, 2, 5, 1, 4]  # in which run B knows the classes


def leaning(targets: Tensor, views: int, lean: float, seed: int) -> Tensor:
    """Views that lean to the true class."""
    noise = torch.randn(len(targets), views, 7, generator=torch.Generator().manual_seed(seed))
    return (noise * 2 + lean * torch.eye(7)[targets][:, None]).softmax(2)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Scores, Scores, Path, Path]:
    """A scored videos 0 to 46, B 6 to 52 backwards with its classes in another order; in `targets` as A counts."""
    targets = torch.arange(53) % 7
    paths = [f"videos/{i} é.mp4" for i in range(53)]
    a = Scores(LABELS, paths[:47], targets[:47], leaning(targets[:47], 3, 2.0, 1))
    back = torch.arange(52, 5, -1)
    views = leaning(targets, 5, 3.0, 2)[back][:, :, ORDER]
    b = Scores(
        [LABELS[c] for c in ORDER], [paths[i] for i in back], torch.tensor(ORDER).argsort()[targets[back]], views
    )
    folders = tmp_path / "a", tmp_path / "b"
    for folder, scores in zip(folders, (a, b), strict=True):
        (folder / "test").mkdir(parents=True)
        write_scores(scores, folder / "test" / "scores.npz")
    return a, b, *folders


def test_figures_are_those_of_the_videos_that_both_scored(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, folder_a, folder_b = runs
    assert run_farfield("compare", folder_a, folder_b, "--draws", 503, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["a"], content["b"], content["draws"]) == (str(folder_a), str(folder_b), 503)
    assert (content["videos"], content["left_out"]) == (41, 12)
    rows = {path: row for row, path in enumerate(b.paths)}
    shared = [rows[path] for path in a.paths[6:]]
    ours, targets = a.views[6:].mean(1), a.targets[6:]
    theirs = torch.stack([b.views[shared].mean(1)[:, b.labels.index(label)] for label in LABELS], 1)
    for name, options in (
        ("top1", {"average": "micro"}),
        ("top5", {"average": "micro", "top_k": 5}),
        ("mean_class_accuracy", {"average": "macro"}),
    ):
        of_a, of_b = (multiclass_accuracy(each, targets, 7, **options).item() for each in (ours, theirs))
        figure = content[name]
        assert (figure["a"], figure["b"], figure["value"]) == pytest.approx((of_a, of_b, of_b - of_a), abs=1e-6)
        assert figure["low"] < figure["value"] < figure["high"]
        assert 0 < figure["p_value"] < 1
    pairs = [
        (int(x.argmax()) == t, int(y.argmax()) == t) for x, y, t in zip(ours, theirs, targets.tolist(), strict=True)
    ]
    assert content["right_in_a_only"] == pairs.count((True, False)) > 0
    assert content["right_in_b_only"] == pairs.count((False, True)) > 0


def test_the_table_says_the_same(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, a, b = runs
    assert run_farfield("compare", a, b, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert run_farfield("compare", a, b) == 0
    lines = capsys.readouterr().out.splitlines()
    only = f"right in A only: {content['right_in_a_only']}, in B only: {content['right_in_b_only']}"
    assert lines[:3] == [f"A {a}", f"B {b}", f"41 videos; {only}; left out, because only one run scored them: 12"]
    assert lines[-1] == "resampled: 41 videos"
    assert (content["resampled"], content["units"], content["no_intervals"]) == ("videos", 41, None)
    for line, name in zip(lines[-4:-1], ("top1", "top5", "mean_class_accuracy"), strict=True):
        figure = content[name]
        shown = f"{100 * figure['low']:+.1f} to {100 * figure['high']:+.1f}"
        words = [f"{100 * figure['a']:.2f}%", f"{100 * figure['b']:.2f}%", f"{100 * figure['value']:+.2f}"]
        assert line.split()[-7:] == [*words, *shown.split(), f"{figure['p_value']:.4f}"]


@pytest.mark.parametrize("with_groups", ["a", "b"])
def test_groups_are_drawn_whole(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str], with_groups: str
) -> None:
    """Each run is right for some persons, of four videos each, and wrong for the others."""
    a, b, folder_a, folder_b = runs
    person = {path: int(path[7:9]) // 4 for path in {*a.paths, *b.paths}}  # video 41 is of person 10
    right = torch.eye(7)

    def views(scores: Scores, persons: set[int]) -> Tensor:
        """Right for the videos of these persons, else wrong."""
        shown = [scores.targets[row] if person[path] in persons else (scores.targets[row] + 1) % 7
                 for row, path in enumerate(scores.paths)]  # fmt: skip
        return right[torch.stack(shown)][:, None]

    for folder, scores, persons in ((folder_a, a, {1, 4, 7, 9}), (folder_b, b, {2, 3, 4, 6, 7, 8, 10})):
        names = [f"person {person[path]}" for path in scores.paths]
        groups = names if folder.name == with_groups else None
        write_scores(replace(scores, views=views(scores, persons)), folder / "test" / "scores.npz", groups=groups)
    assert run_farfield("compare", folder_a, folder_b, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["resampled"], content["units"]) == ("groups", 11)  # videos 6 to 46: persons 1 to 11
    grouped = content["top1"]
    assert run_farfield("compare", folder_a, folder_b) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "resampled: 11 groups"

    for folder, scores, persons in ((folder_a, a, {1, 4, 7, 9}), (folder_b, b, {2, 3, 4, 6, 7, 8, 10})):
        write_scores(replace(scores, views=views(scores, persons)), folder / "test" / "scores.npz")
    assert run_farfield("compare", folder_a, folder_b, "--json") == 0
    single = json.loads(capsys.readouterr().out)["top1"]
    assert single["value"] == grouped["value"] > 0
    assert grouped["high"] - grouped["low"] > 1.5 * (single["high"] - single["low"])
    assert grouped["p_value"] > 3 * single["p_value"]


def test_few_groups_have_no_interval(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, _, folder_a, folder_b = runs
    groups = ["left" if row % 3 else None for row in range(47)]
    groups[7:] = ["right"] * 40
    write_scores(a, folder_a / "test" / "scores.npz", groups=groups)
    reason = "too few groups (2) for an interval; at least 10 are needed"  # of videos 6 to 46
    assert run_farfield("compare", folder_a, folder_b, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["units"], content["no_intervals"]) == (2, reason)
    assert content["top1"]["value"] is not None
    assert content["top1"]["low"] is content["top1"]["p_value"] is None
    assert run_farfield("compare", folder_a, folder_b) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"no intervals: {reason}"
    assert lines[-2].split()[-1] == f"{100 * content['mean_class_accuracy']['value']:+.2f}"


def test_groups_of_videos_that_only_one_run_scored_do_not_count(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A has groups for the videos 0 to 5 alone, which B lacks; B has one for the videos 6 to 15."""
    a, b, folder_a, folder_b = runs
    write_scores(a, folder_a / "test/scores.npz", groups=["x"] * 6 + [None] * 41)
    assert run_farfield("compare", folder_a, folder_b, "--draws", 307) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "resampled: 41 videos"
    groups = ["y" if int(path[7:9]) < 16 else None for path in b.paths]
    write_scores(b, folder_b / "test/scores.npz", groups=groups)
    assert run_farfield("compare", folder_a, folder_b, "--draws", 307) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "resampled: 32 groups"


def test_a_run_against_itself_and_the_ways_to_name_it(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[2]
    for other in (run, run / "test", run / "test" / "scores.npz"):
        assert run_farfield("compare", run, other, "--draws", 211, "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert (content["videos"], content["left_out"]) == (47, 0)
        assert (content["right_in_a_only"], content["right_in_b_only"]) == (0, 0)
        assert [content["top1"][key] for key in ("value", "low", "high", "p_value")] == [0, 0, 0, 1]
    assert run_farfield("compare", run, run, "--draws", 211) == 0
    assert "left out" not in capsys.readouterr().out


def test_the_seed_decides(
    runs: tuple[Scores, Scores, Path, Path], run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for seed in (3, 3, 5):
        assert run_farfield("compare", *runs[2:], "--draws", 307, "--seed", seed, "--json") == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["mean_class_accuracy"] != told[2]["mean_class_accuracy"]


def test_mistakes_are_one_line(
    runs: tuple[Scores, Scores, Path, Path], tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, _, run, run_b = runs
    wrong = a.targets.clone()
    wrong[9] = 3  # of video 9, which is class 2, dive
    others = {
        "renamed": replace(a, labels=[*LABELS[:6], "salute"]),
        "more": replace(a, labels=[*LABELS, "yawn"], views=torch.rand(47, 2, 8)),
        "elsewhere": replace(a, paths=[f"elsewhere/{path}" for path in a.paths]),
        "relabelled": replace(a, targets=wrong),
    }
    for name, scores in others.items():
        write_scores(scores, tmp_path / f"{name}.npz")
    (tmp_path / "text.npz").write_text("these are no scores\n")
    (tmp_path / "untested").mkdir()
    for words, *messages in (
        (
            [run, tmp_path / "untested"],
            f"{tmp_path / 'untested'} contains no scores (scores.npz). Give a run",
        ),
        ([tmp_path / "nowhere", run], f"{tmp_path / 'nowhere'} contains no scores (scores.npz)"),
        (
            [run, tmp_path / "text.npz"],
            f"{tmp_path / 'text.npz'} is damaged, or not a scores file written by",
        ),
        (
            [run, tmp_path / "renamed.npz"],
            "different classes (in one run only: salute, wave). ",
            "restrict_labels set to true",
        ),
        ([run, tmp_path / "more.npz"], "the runs have different classes (in one run only: yawn). Test both runs"),
        (
            [run, tmp_path / "elsewhere.npz"],
            "in common. For example, the first has videos/0 é.mp4, and the second has elsewhere/videos/0 é.mp4. Test",
        ),
        (
            [run_b, tmp_path / "relabelled.npz"],
            "videos/9 é.mp4 has the label 'dive' in one run and 'jump' in the other. Test both",
        ),
        ([run, run, "--draws", 99], "draws is 99; it must be at least 100"),
        ([run, run, "--draw", 503], "there is no option draw. ", "Did you mean 'draws'"),
        ([run], "the following arguments are required: run_b"),
    ):
        assert run_farfield("compare", *words) == 2, words
        captured = capsys.readouterr()
        assert captured.err.startswith("farfield compare: ")
        assert all(message in captured.err for message in messages), captured.err
        assert len(captured.err.splitlines()) == 1
        assert captured.out == ""


def test_a_seed_below_zero_is_refused(runs: tuple[Scores, Scores, Path, Path], run_farfield: Run) -> None:
    assert run_farfield("compare", *runs[2:], "--seed", -1) == 2


def test_a_run_without_a_video_is_refused(
    runs: tuple[Scores, Scores, Path, Path], tmp_path: Path, run_farfield: Run
) -> None:
    a, _, run, _ = runs
    write_scores(Scores(LABELS, [], a.targets[:0], a.views[:0]), tmp_path / "none.npz")
    assert run_farfield("compare", run, tmp_path / "none.npz") == 2


def test_segments_of_one_video_are_compared_each_with_itself(
    runs: tuple[Scores, Scores, Path, Path], tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, *_ = runs
    begin = torch.arange(47, dtype=torch.float64) * 2.5
    one = replace(a, paths=["long.mp4"] * 47, segments=torch.stack([begin, begin + 2.5], 1))
    assert one.segments is not None
    back = torch.arange(46, 4, -1)
    other = replace(one, paths=one.paths[5:], targets=a.targets[back], views=a.views[back], segments=one.segments[back])
    for name, scores in {"one": one, "other": other, "twice": replace(one, segments=None)}.items():
        write_scores(scores, tmp_path / f"{name}.npz")
    assert run_farfield("compare", tmp_path / "one.npz", tmp_path / "other.npz", "--draws", 307, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["videos"], content["left_out"]) == (42, 5)
    assert content["right_in_a_only"] == content["right_in_b_only"] == 0
    assert run_farfield("compare", tmp_path / "one.npz", tmp_path / "twice.npz") == 2
    assert "twice.npz contains a video twice" in capsys.readouterr().err


def test_a_link_pairs_with_what_an_earlier_version_called_it(
    runs: tuple[Scores, Scores, Path, Path], tmp_path: Path, run_farfield: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    a, *_ = runs
    for number in range(47):
        (tmp_path / f"{number:x}a").write_bytes(b"")
        (tmp_path / f"{number}.mp4").symlink_to(tmp_path / f"{number:x}a")
    now = replace(a, paths=[str(tmp_path.resolve() / f"{number}.mp4") for number in range(47)])
    earlier = replace(a, paths=[str(tmp_path.resolve() / f"{number:x}a") for number in range(47)])
    for name, scores in {"now": now, "earlier": earlier}.items():
        write_scores(scores, tmp_path / f"{name}.npz")
    assert run_farfield("compare", tmp_path / "now.npz", tmp_path / "earlier.npz", "--draws", 211, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["videos"], content["left_out"], content["top1"]["value"]) == (47, 0, 0)
