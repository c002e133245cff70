"""report.html of a real run: it needs no other file, and shows the results of the validation."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from farfield.data.manifest import read_manifest, write_manifest
from farfield.evaluation.group_intervals import measure_in_units
from farfield.evaluation.metrics import measure
from training.test_fit import arguments

pytestmark = pytest.mark.slow

LABEL = "<script>alert('1')</script> & co"
CLIPS = 3


class Recorder(Callback):
    """Keep the scores of the last validation."""

    scores: tuple[Tensor, ...]
    labels: list[str]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        Recorder.scores = tuple(torch.cat(parts) for parts in zip(*module.val_scores, strict=True))
        Recorder.labels = list(module.network.labels)


@dataclass
class Page(HTMLParser):
    """A page's tables, captions and media, by heading."""

    tags: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    sources: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    heading: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources.setdefault(self.heading, []).extend(
            value or "" for name, value in attrs if name in ("src", "href")
        )
        if tag in ("h1", "h2"):
            self.heading = ""
        elif tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.heading][-1].append("")
        elif tag == "figcaption":
            self.captions.setdefault(self.heading, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside in ("h1", "h2"):
            self.heading += data
        elif inside in ("td", "th"):
            self.tables[self.heading][-1][-1] += data
        elif inside == "figcaption":
            self.captions[self.heading][-1] += data


def hostile_manifests(figures: Path, folder: Path) -> list[str]:
    """Copy the manifests with a label that would be a script in a page that did not escape it, and with groups."""
    for split in ("train", "val"):
        rows = [
            replace(row, label=LABEL if row.label == "bow" else row.label, group=f"film {number // 3}")
            for number, row in enumerate(read_manifest(figures / f"{split}.csv"))
        ]
        write_manifest(folder / f"{split}.csv", rows)
    return [f"--data.train={folder / 'train.csv'}", f"--data.val={folder / 'val.csv'}", f"--data.root={figures}"]


@pytest.fixture(scope="module")
def run_dir(figures: Path, tmp_path_factory: pytest.TempPathFactory, run_farfield: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    options = [
        *hostile_manifests(figures, folder),
        "--model.insert={res3: [1]}",
        "--report.every_n_epochs=1",
        f"--report.num_clips={CLIPS}",
    ]
    options.append("--trainer.callbacks=[{class_path: reports.test_training_report.Recorder}]")
    assert run_farfield(*arguments(figures, folder / "<b>run", *options), "--trainer.max_epochs=2") == 0
    return folder / "<b>run"


@pytest.fixture(scope="module")
def page(run_dir: Path) -> Page:
    parsed = Page()
    parsed.feed((run_dir / "report.html").read_text(encoding="utf-8"))
    parsed.close()
    assert parsed.open == []  # every tag is closed
    return parsed


def test_a_page_needs_no_other_file(page: Page, run_dir: Path) -> None:
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    for elsewhere in ("http://", "https://", "file:", "url(", "@import", "srcset"):
        assert elsewhere not in text
    sources = [source for each in page.sources.values() for source in each]
    assert len(sources) > 8
    assert all(source.startswith(("data:image/png;base64,", "data:video/mp4;base64,")) for source in sources)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not list(run_dir.glob("*.partial"))


def test_names_and_labels_are_escaped(page: Page, run_dir: Path) -> None:
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; co" in text
    assert LABEL in [row[0] for row in page.tables["Classes, hardest first"]]
    assert any(LABEL in caption for captions in page.captions.values() for caption in captions)


def test_pictures_and_clips_can_be_decoded(page: Page) -> None:
    pictures = {"Curves": 2, "Confusion matrix": 1, "Reliability": 1, "What a position attends to": CLIPS}
    for heading, count in pictures.items():
        assert len(page.sources[heading]) == count, heading
        for source in page.sources[heading]:
            with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))) as picture:
                assert picture.format == "PNG"
                picture.load()
                assert len(picture.convert("RGB").getcolors(10**6)) > 10  # something is drawn
    for heading in ("Most confidently wrong", "The same clips after each epoch"):
        assert len(page.sources[heading]) == CLIPS
        for source in page.sources[heading]:
            content = io.BytesIO(base64.b64decode(source.removeprefix("data:video/mp4;base64,")))
            with av.open(content) as video:
                assert [frame.width for frame in video.decode(video=0)] == [24] * 4


def test_tables_agree_with_the_validation(page: Page, run_dir: Path) -> None:
    _, targets, probabilities = Recorder.scores
    names = Recorder.labels
    expected = []
    for index in sorted(set(targets.tolist())):
        guesses = [int(p.argmax()) for p, target in zip(probabilities, targets, strict=True) if target == index]
        wrong = [guess for guess in guesses if guess != index]
        taken = names[max(sorted(set(wrong)), key=wrong.count)] if wrong else ""
        share = str(round(guesses.count(index) / len(guesses), 4))
        expected.append([names[index], str(len(guesses)), share, taken])
    header, *rows = page.tables["Classes, hardest first"]
    assert header == ["class", "videos", "accuracy", "most often taken for"]
    assert sorted(rows) == sorted(expected)
    assert [float(row[2]) for row in rows] == sorted(float(row[2]) for row in rows)
    top1 = sum(int(p.argmax()) == target for p, target in zip(probabilities, targets.tolist(), strict=True))
    by_film = measure_in_units(probabilities, targets, Recorder.scores[0] // 3).top1
    interval = f"{100 * by_film.low:.1f} to {100 * by_film.high:.1f}"
    assert page.tables[run_dir.name][1] == ["top-1", f"{100 * top1 / len(targets):.2f}%", interval]
    assert by_film != measure(probabilities, targets).top1
    epochs = [line.split(",") for line in (run_dir / "metrics.csv").read_text().splitlines()]
    assert page.tables["Epochs"] == epochs
    assert page.tables["Batch norms, on the last training batch"][1][0].startswith("backbone.")


def test_most_confidently_wrong_clips_agree_with_the_validation(page: Page) -> None:
    _, targets, probabilities = Recorder.scores
    wrong = []
    for target, chances in zip(targets.tolist(), probabilities.tolist(), strict=True):
        guess = max(range(len(chances)), key=chances.__getitem__)
        if guess != target:
            wrong.append((chances[guess], f"{Recorder.labels[target]}, predicted as {Recorder.labels[guess]}"))
    assert len(wrong) > CLIPS
    expected = [f"{words} ({chance:.0%})" for chance, words in sorted(wrong, reverse=True)[:CLIPS]]
    assert page.captions["Most confidently wrong"] == expected


def test_a_run_without_a_report_has_the_same_losses(
    run_dir: Path, figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    options = [
        *hostile_manifests(figures, tmp_path),
        "--model.insert={res3: [1]}",
    ]
    assert run_farfield(*arguments(figures, tmp_path / "run", *options), "--trainer.max_epochs=2") == 0
    assert not (tmp_path / "run/report.html").exists()
    assert (tmp_path / "run/steps.csv").read_text() == (run_dir / "steps.csv").read_text()


def test_a_run_that_ends_at_max_steps_reports_its_last_epoch(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    """`every_n_epochs`: "after how many epochs; the last one always"."""
    options = ["--report.every_n_epochs=3", "--trainer.max_epochs=-1", "--trainer.max_steps=4"]  # two epochs
    assert run_farfield(*arguments(figures, tmp_path, *options, "--trainer.limit_val_batches=1")) == 0
    assert "After epoch 2, step 4." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_negative_settings_are_refused(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_farfield(*arguments(figures, tmp_path, "--report.every_n_epochs=-1", "--report.num_clips=-3")) == 2
    assert "every_n_epochs is -1 and report.num_clips is -3; both must be at least 0." in capsys.readouterr().err
