"""The picture of truth and answer: its bars are the segments, and it holds all of its text."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from PIL import Image

from evaluation.test_plots import texts_of
from evaluation.timelines import random_video
from farfield.evaluation.timeline_plots import COLOURED_CLASSES, OTHER_COLOUR, class_colours, plot_timelines

NAMES = ["walk", "Putting something similar to other things that are already on the table", "$\\foo$", "W" * 130]


def labels_of(classes: int) -> list[str]:
    return [f"{name} {i}" for i, name in zip(range(classes), itertools.cycle(NAMES), strict=False)]


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "segments", "seconds"), [(1, 5, 0.9), (6, 20, 60), (40, 90, 8000), (50, 300, 60)])
def test_all_text_is_inside_the_picture(classes: int, segments: int, seconds: float, tmp_path: Path) -> None:
    labels, rng = labels_of(classes), np.random.default_rng(classes)
    name = "a folder of a collection that has a long name/" * 4
    videos = [random_video(f"{name}{i}.mp4", labels, rng, seconds=max(seconds, 3), segments=segments) for i in range(3)]
    figure = plot_timelines(videos, labels, tmp_path / "timelines.png")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert [title.split("   ")[1] for title in titles] == [f"agreement {100 * v.agreement():.0f}%" for v in videos]
    assert all(title.startswith("…") and f"/{i}.mp4" in title for i, title in enumerate(titles))
    legend = figure.axes[-1].get_legend()
    assert legend is not None
    texts = [text for axes in figure.axes[:-1] for text in texts_of(axes)] + legend.get_texts()
    texts = [text for text in texts if text.get_text()]
    assert {"truth", "answer"} < {text.get_text() for text in texts}
    for text in texts:
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1, text
    with Image.open(tmp_path / "timelines.png") as image:
        assert image.width < 1500
        assert image.height < 4000


def test_a_bar_is_a_segment(tmp_path: Path) -> None:
    """Rectangles of a class's colour, above for the truth and below for the answer."""
    labels = ["a", "b", "c"]
    video = random_video("v.mp4", labels, np.random.default_rng(4), segments=11)
    assert video.segments
    figure = plot_timelines([video], labels)
    axes = figure.axes[0]
    colours = {to_rgb(colour): label for label, colour in class_colours([video], labels).items()}
    boxes = []
    for bars in axes.findobj(PolyCollection):
        label = colours[to_rgb(bars.get_facecolor()[0])]
        boxes += [(*path.get_extents().extents, label) for path in bars.get_paths()]
    middle = np.mean(axes.get_yticks())
    for wanted, drawn in [
        ([tuple(each) for each in video.truth], [box for box in boxes if box[1] > middle]),
        ([(s.start_seconds, s.end_seconds, s.label) for s in video.segments], [b for b in boxes if b[3] < middle]),
    ]:
        assert sorted((x0, x1, label) for x0, _, x1, _, label in drawn) == [
            (pytest.approx(start), pytest.approx(end), label) for start, end, label in sorted(wanted)
        ]
        for one, other in itertools.combinations(drawn, 2):  # none lies on another
            assert one[2] <= other[0] + 1e-9 or other[2] <= one[0] + 1e-9 or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.slow
def test_classes_have_colours_of_their_own_and_the_rest_is_grey() -> None:
    labels = [f"c{i}" for i in range(60)]
    rng = np.random.default_rng(5)
    videos = [random_video(f"{i}.mp4", labels, rng, segments=200) for i in range(2)]
    colours = class_colours(videos, labels)
    assert len(colours) == COLOURED_CLASSES
    assert len({to_rgb(colour) for colour in [*colours.values(), OTHER_COLOUR]}) == COLOURED_CLASSES + 1
    for colour in colours.values():
        assert max(to_rgb(colour)) - min(to_rgb(colour)) > 0.1  # no grey
    figure = plot_timelines(videos, labels)
    legend = figure.axes[-1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*colours, "22 other classes"]


def test_nothing_at_all() -> None:
    video = random_video("v.mp4", ["a"], np.random.default_rng(0), segments=0)
    figure = plot_timelines([video], ["a"])
    assert figure.axes[0].get_yticklabels()[1].get_text() == "answer"
