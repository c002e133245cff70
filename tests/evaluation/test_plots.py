"""Pictures of an evaluation hold all of their text, for any names and any number of classes."""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from farfield.evaluation.accuracy_by_views import AccuracyAtViews
from farfield.evaluation.calibration import Bin, Calibration
from farfield.evaluation.metrics import Estimate
from farfield.evaluation.multilabel_calibration import PairBin, PairCalibration
from farfield.evaluation.plots import (
    confused_pairs,
    plot_confusion,
    plot_pair_reliability,
    plot_precision_by_views,
    plot_reliability,
    plot_views,
)
from farfield.evaluation.precision_by_views import PrecisionAtViews
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.test_report import write_report
from test_fonts import RUN, WALK, machine, write_font  # noqa: F401  # a fixture

SOMETHING = [
    "Pretending to put something next to something",
    "Putting something similar to other things that are already on the table",
    "Moving something and something so they collide with each other, and neither of them is moved a second time by it",
    "Tearing something just a little bit",
    "Spilling something $\\foo$ behind something",
    "W" * 130,
]


def texts_of(axes: Axes) -> list[Text]:
    """Titles of the axes, numbers in the cells, and the names of ticks that are in view."""
    found = [axes.xaxis.label, axes.yaxis.label, *axes.texts]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklocs(), axis.get_major_ticks(), strict=True)
        labels = [label for at, tick in ticks if low <= at <= high for label in (tick.label1, tick.label2)]
        found += [label for label in labels if label.get_visible()]
    return found


def texts_inside(figure: Figure) -> set[str]:
    """Return the texts of a figure, and check that all are inside the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    every = [*figure.axes, *(inner for axes in figure.axes for inner in axes.child_axes)]
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for axes in every
        for text in texts_of(axes)
        if text.get_text()
    ]
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    return {text for text, _ in boxes}


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 6, 25, 40, 41, 174])
def test_every_name_and_title_is_inside_the_picture_and_none_lies_on_another(classes: int) -> None:
    labels = [f"{name} {i}" for i, name in zip(range(classes), itertools.cycle(SOMETHING), strict=False)]
    figure = plot_confusion(torch.randint(1, 9, (classes, classes)), labels)
    shown = texts_inside(figure)
    assert {"true", "predicted", "fraction of the class"} < shown
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    if classes <= 40:
        assert " ".join(axes.get_yticklabels()[0].get_text().split()) == f"{SOMETHING[0]} 0"
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            extents = [tick.get_window_extent(renderer) for tick in ticks]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(extents))
    else:
        assert not any("something" in text for text in shown)
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height, abs=1)
    assert max(figure.get_size_inches()) < 24


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1, 1e-3])
def test_titles_and_numbers_of_the_other_pictures_are_inside(spread: float) -> None:
    """Also where the numbers of the ticks have many digits."""
    bins = [(k / 10, (k + 1) / 10, 1 + int(k**8 * spread), k / 11, k / 10) for k in range(10)]
    whole, pairs = Calibration([Bin(*each) for each in bins], 0.1, 0.2), [PairBin(*each) for each in bins]
    assert "share of videos" in texts_inside(plot_reliability(whole, whole))
    assert "share of pairs" in texts_inside(plot_pair_reliability(PairCalibration(pairs, 0.1, 0.2)))
    top1 = [Estimate(*(1 - spread * k / n for n in (10, 9, 11))) for k in range(10)]
    by_views = [AccuracyAtViews(k + 1, each) for k, each in enumerate(top1)]
    precision = [PrecisionAtViews(k + 1, each.value) for k, each in enumerate(top1)]
    for cost in (None, 0.0013, 1234.5):
        for figure in (plot_views(by_views, cost), plot_precision_by_views(precision, cost)):
            assert ("G multiply-adds per video" in texts_inside(figure)) == (cost is not None)


def test_the_most_confused_pairs_by_hand() -> None:
    confusion = torch.tensor([[5, 3, 0], [1, 0, 7], [0, 0, 0]])
    assert confused_pairs(confusion, ["a", "b", "c"]) == [
        {"label": "b", "predicted": "c", "videos": 7, "share": 0.875},
        {"label": "a", "predicted": "b", "videos": 3, "share": 0.375},
        {"label": "b", "predicted": "a", "videos": 1, "share": 0.125},
    ]
    assert [pair["videos"] for pair in confused_pairs(confusion, ["a", "b", "c"], most=2)] == [7, 3]


def _scores(labels: list[str], targets: list[int], guesses: list[int]) -> Scores:
    views = torch.full((len(targets), 1, len(labels)), 0.1 / len(labels))
    views[range(len(targets)), 0, guesses] = 0.9
    return Scores(labels, [f"{i}.mp4" for i in range(len(targets))], torch.tensor(targets), views)


@pytest.mark.slow
def test_above_forty_classes_the_report_has_a_table_of_pairs(tmp_path: Path, machine) -> None:  # noqa: F811
    """The curves name the hardest classes by number if no font has their names, so tables have the numbers."""
    machine()
    labels = [f"class of {WALK} {i}" for i in range(41)]
    scores = _scores(labels, [*range(41), 3, 3, 3], [*range(41), 5, 5, 7])
    content = write_report(EvaluationResult(scores, []), tmp_path / "many")
    assert content["most_confused"][0] == {"label": labels[3], "predicted": labels[5], "videos": 2, "share": 0.5}
    text = (tmp_path / "many/report.md").read_text()
    shown = {number: f"{labels[number]} (class {number})" for number in (3, 5, 7)}
    assert f"| {shown[3]} | {shown[5]} | 2 | 50.0% |\n| {shown[3]} | {shown[7]} | 1 | 25.0% |" in text
    assert f"| {labels[3]} (class 3) | 4 | 25.0% | {labels[5]} (class 5) |" in text
    few = _scores(labels[:40], [0, 0], [0, 1])
    write_report(EvaluationResult(few, []), tmp_path / "few")
    assert "Most confused" not in (tmp_path / "few/report.md").read_text()


@pytest.mark.slow
def test_without_a_font_numbers_stand_for_names_and_the_table_says_which(tmp_path: Path, machine) -> None:  # noqa: F811
    machine()
    write_report(EvaluationResult(_scores(["bow", WALK, RUN], [1, 0], [2, 0]), []), tmp_path / "without")
    text = (tmp_path / "without/report.md").read_text()
    assert f"| {WALK} (class 1) | 1 | 0.0% | {RUN} (class 2) |" in text
    assert "| bow | 1 | 100.0% |  |" in text
    machine(write_font(tmp_path / "Square.ttf", WALK + RUN, advance=1000))
    write_report(EvaluationResult(_scores(["bow", WALK, RUN], [1, 0], [2, 0]), []), tmp_path / "with")
    assert f"| {WALK} | 1 | 0.0% | {RUN} |" in (tmp_path / "with/report.md").read_text()
    pictures = [Image.open(tmp_path / name / "confusion_matrix.png") for name in ("without", "with")]
    assert pictures[0].width > pictures[1].width  # "class 1" is wider than a square


def test_a_runs_page_shows_the_pairs(figures: Path, tmp_path: Path, machine) -> None:  # noqa: F811
    from farfield.reports.page_content import Table
    from farfield.reports.training_report import write_training_report
    from farfield.training.diagnostics import Diagnostics, training_report
    from farfield.training.run_folder import RunFiles
    from farfield.training.single_label_diagnostics import SingleLabelDiagnostics

    machine()
    labels = [f"<{WALK}> {i}" for i in range(41)]
    scores = _scores(labels, [0, 0, 1], [1, 1, 1])
    measured = SingleLabelDiagnostics(scores.probabilities, scores.targets, labels)
    found = Diagnostics(0, 1, Table(["validation"], []), 0.0)
    found.tables = {"classes": measured.class_table(), "most_confused": measured.confusion_table()}
    found.pictures = measured.plots()
    (tmp_path / "metrics.csv").write_text(",".join(RunFiles.EPOCH_COLUMNS) + "\n")
    report = training_report(found, run_dir=tmp_path, about={}, config="")
    write_training_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    row = f"<td>&lt;{WALK}&gt; 0 (class 0)</td><td>&lt;{WALK}&gt; 1 (class 1)</td><td>2</td><td>1.0</td>"
    assert re.search(f"Most confused</h2>\\s*<table>.*{re.escape(row)}", page, re.DOTALL)
    assert len(re.findall(r"base64,(\S+?)\"", page)) == 3
    assert base64.b64decode(re.findall(r"base64,(\S+?)\"", page)[1])[:4] == b"\x89PNG"
