"""Pages of the Python API, which mkdocstrings fills from signatures and docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc

import farfield
from docs_site.markdown import escape
from farfield import layers

FOLDER = "reference/python"


@dataclass(frozen=True)
class Page:
    """Page with public names.

    Attributes:
        file: name of the page's file without suffix.
        title: title of the page.
        names: public names, in the order of the page.
        results: paths of further classes that these functions return.
    """

    file: str
    title: str
    names: tuple[str, ...]
    results: tuple[str, ...] = ()


PAGES = [
    Page("networks", "Networks", ("build_model", "load_model", "save_model", "ClipSpec"), (
        "farfield.models.network.ActionNet", "farfield.scoring.load.InferenceModel",
    )),
    Page("train", "Training", ("train", "TrainResult"), (
        "farfield.probing.result.ProbeResult", "farfield.probing.result.HeadResult",
    )),
    Page("evaluate", "Evaluation", ("evaluate", "EvaluationResult", "TimelineResult"), (
        "farfield.evaluation.metrics.Metrics",
        "farfield.evaluation.metrics.Estimate",
        "farfield.evaluation.multilabel_metrics.MultilabelMetrics",
        "farfield.evaluation.multi_head_metrics.JointMetrics",
        "farfield.evaluation.result.ClassResult",
        "farfield.evaluation.class_metrics.Averaged",
        "farfield.evaluation.class_metrics.DecisionMetrics",
        "farfield.evaluation.class_metrics.RankingMetrics",
        "farfield.evaluation.calibration.Calibration",
        "farfield.evaluation.multilabel_calibration.PairCalibration",
        "farfield.evaluation.accuracy_by_views.AccuracyAtViews",
        "farfield.evaluation.precision_by_views.PrecisionAtViews",
        "farfield.evaluation.curves.Curves",
        "farfield.evaluation.scores_file.Scores",
        "farfield.models.operating_point.OperatingPoint",
        "farfield.evaluation.segment_precision.DetectionMap",
        "farfield.evaluation.frame_metrics.FrameAccuracy",
        "farfield.evaluation.alarms.FalseAlarms",
        "farfield.evaluation.alarms.DetectionDelays",
        "farfield.evaluation.video_timeline.VideoTimeline",
    )),
    Page("predict", "Prediction", ("predict", "Prediction", "TimelineOptions"), (
        "farfield.inference.prediction_schema.RankedLabel",
        "farfield.timelines.segments.Segment",
        "farfield.timelines.timeline.Timeline",
    )),
    Page("explain", "Explanation", ("explain", "Explanation"), (
        "farfield.interpretability.explanation.BlockExplanation",
        "farfield.interpretability.attention_maps.AttentionMap",
        "farfield.interpretability.strongest_connections.Connection",
        "farfield.interpretability.attention_spread.Spread",
        "farfield.interpretability.block_activations.BlockActivation",
        "farfield.interpretability.grad_cam.GradCam",
        "farfield.interpretability.class_evidence.Evidence",
    )),
    Page("export", "Export", ("export", "ExportReport"), (
        "farfield.exporters.parity.ParityDifference", "farfield.runtimes.metadata.ExportMetadata",
    )),
    Page("errors", "Errors", ("FarfieldError", "VideoError")),
]  # fmt: skip

LAYER_PAGES = {
    "non_local": ("Non-local blocks", ("non_local", "pairwise")),
    "attention": (
        "Other attention blocks",
        ("self_attention", "dual_attention", "criss_cross", "coordinate_attention", "object_context"),
    ),
    "batch_norm": (
        "Batch norm",
        (
            "batch_norm",
            "batch_norm_diagnostics",
            "precise_batch_norm",
            "frozen_batch_norm",
            "fold_batch_norm",
            "sub_batch_norm",
        ),
    ),
    "convolution": ("Convolutions", ("unfold_conv", "pointwise", "frame_conv")),
    "pooling": ("Pooling", ("pooling", "attentive_pool")),
    "tools": ("Memory and replacement", ("recomputation", "replace_modules")),
}
"""Title and modules of each page of layers, by the name of its file."""


def python_pages() -> dict[str, str]:
    """Write the pages of the Python API. Return Markdown by path below docs/.

    Raises:
        LookupError: if a public name is on no page.
    """
    by_module = _layers_by_module()
    placed = {name for page in PAGES for name in page.names}
    modules = {module for _, each in LAYER_PAGES.values() for module in each}
    if missing := [*sorted(set(farfield.__all__) - placed), *sorted(set(by_module) - modules)]:
        raise LookupError(f"these public names are on no page of the Python API: {missing}. Add them to {__file__}.")
    pages = {f"{FOLDER}/index.md": _index(by_module)}
    pages |= {f"{FOLDER}/{page.file}.md": _page(page) for page in PAGES}
    pages |= {f"{FOLDER}/layers/{file}.md": _layer_page(file, by_module) for file in LAYER_PAGES}
    return pages


def _layers_by_module() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in layers.__all__:
        found.setdefault(getattr(layers, name).__module__.rpartition(".")[2], []).append(name)
    return found


def _page(page: Page) -> str:
    lines = [f"# {page.title}", "", *(f"::: farfield.{name}\n" for name in page.names)]
    if page.results:
        lines += [
            "## Parts of the results",
            "",
            "These classes are not imported from `farfield`: results hold them.",
            "",
        ]
        lines += [f"::: {path}\n    options:\n      heading_level: 3\n" for path in page.results]
    return "\n".join(lines)


def _layer_page(file: str, by_module: dict[str, list[str]]) -> str:
    title, modules = LAYER_PAGES[file]
    lines = [f"# {title}", "", "Import these names from `farfield.layers`.", ""]
    for module in modules:
        # The module's docstring gives the equations and the paper.
        lines += [f"## {module.replace('_', ' ').capitalize()} {{ #{module} }}", "", f"::: farfield.layers.{module}"]
        lines += [
            "    options:",
            "      members: false",
            "      show_root_toc_entry: false",
            "      show_root_heading: false",
            "",
        ]
        lines += [f"::: farfield.layers.{name}\n    options:\n      heading_level: 3\n" for name in by_module[module]]
    return "\n".join(lines)


def _index(by_module: dict[str, list[str]]) -> str:
    introduction = cleandoc("""
        # Python API

        ```python
        import farfield
        from farfield.layers import NonLocalBlock3d
        ```

        Everything that a command does is a function that returns a value. These names are the public API: a change of
        one is announced in the changelog. Other modules may change without notice.
        """)
    lines = [introduction, "", "## farfield", "", "| name | what it does |", "|---|---|"]
    for page in PAGES:
        lines += [_row(name, getattr(farfield, name), f"{page.file}.md#farfield.{name}") for name in page.names]
    lines += ["", "## farfield.layers", "", "| name | what it does |", "|---|---|"]
    for file, (_, modules) in LAYER_PAGES.items():
        for module in modules:
            target = f"layers/{file}.md#farfield.layers."
            lines += [_row(name, getattr(layers, name), target + name) for name in by_module[module]]
    return "\n".join([*lines, ""])


def _row(name: str, value: object, target: str) -> str:
    summary = (value.__doc__ or "").partition("\n\n")[0]
    return f"| [`{name}`]({target}) | {escape(' '.join(summary.split()))} |"
