"""Every page and report with one text in each place that a label, path, message or name can reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

from exporters.networks import awake
from farfield.reports.explanation_page import explanation_html
from farfield.reports.model_card import model_card
from farfield.reports.page_content import ShownClip, Table
from farfield.reports.page_fragments import note_html, picture_html, ranking_html, timeline_html
from farfield.reports.test_report_markdown import render_test_report
from farfield.reports.training_report import TrainingReport, write_training_report
from farfield.reports.verify_report_markdown import render_verify_report

FIGURE = Figure(figsize=(1, 1))
PNG = b"\x89PNG"
VIEW = {"clip": 0, "crop": 0, "num_crops": 3, "start_seconds": 0.0, "end_seconds": 1.5, "probability": 0.5}
SPREAD = {"entropy_bits": 1.0, "entropy_share": 0.5, "frames": 1.0, "seconds": 0.1, "px": 9.0}
METRICS = {key: {"value": 0.5, "low": 0.25, "high": 0.75} for key in ("top1", "top5", "mean_class_accuracy")}
CLASS_METRICS = {
    "precision": {"value": None, "low": None, "high": None},
    "recall": {"value": 0.5, "low": None, "high": None},
    **{key: {"value": 0.5, "low": 0.25, "high": 0.75} for key in ("f1", "average_precision", "roc_auc")},
}


def training_report(text: str) -> str:
    table = Table([text, "videos"], [[text, 3], [text, 4]])
    clip = ShownClip(np.zeros((4, 24, 24, 3), np.uint8), text)
    report = TrainingReport(
        title=text,
        epoch=2,
        step=7,
        validation=table,
        curves={text: FIGURE},
        classes=table,
        most_confused=table,
        plots={"Confusion matrix": FIGURE, "Reliability": FIGURE},
        most_confidently_wrong=[clip],
        predicted_clips=[clip, clip],
        attention=[FIGURE],
        batch_norms=table,
        epochs=table,
        about={text: text},
        config=text,
    )
    with TemporaryDirectory() as folder:
        write_training_report(Path(folder, "report.html"), report)
        return Path(folder, "report.html").read_text(encoding="utf-8")


def explanation_page(text: str) -> str:
    content = {
        "path": text,
        "label": text,
        "ranking": [{"label": text, "probability": 0.75}],
        "view": {**VIEW, "width_px": 56, "height_px": 48},
        "windows": [{}, {}],
        "blocks": [{"block": text, "of_query": SPREAD, "mean": SPREAD, "uniform": SPREAD}],
        "notes": [text],
    }
    part = f"part_{text}.png"
    pictures = dict.fromkeys(("attention.png", part, "grad_cam.png", "evidence.png", "windows.png"), PNG)
    videos = dict.fromkeys((f"attention_{text}.mp4", f"grad_cam_{text}.mp4"), b"mp4")
    return explanation_html(content, pictures, videos, {part: text})


def server_parts(text: str) -> str:
    segment = {"start_seconds": 0.0, "end_seconds": 1.0, "label": text, "probability": 0.5}
    ranking = [{"label": text, "probability": 0.5}]
    parts = [timeline_html([segment], 2.0), ranking_html(ranking), picture_html(PNG, text), note_html(text)]
    return "".join([*parts, note_html(text, failed=True)])


def test_report(text: str) -> str:
    calibration = {"expected_error": 0.125, "negative_log_likelihood": 1.5}
    classes = [
        {"label": text, "videos": 4, "accuracy": 0.5, "most_often_taken_for": text},
        {"label": f"{text}2", "videos": 0, "accuracy": None, "most_often_taken_for": None},
    ]
    counts = {"true_positives": 2, "predicted": 3}
    report = {
        "checkpoint": text,
        "inserted": {text: [1]},
        "missing_videos": None,
        "num_clips": 10,
        "videos": 4,
        **METRICS,
        "classes": classes,
        "most_confused": [{"label": text, "predicted": text, "videos": 2, "share": 0.5}],
        "undecodable_videos": [{"path": text, "reason": text}],
        "calibration": {"temperature": 1.25, "as_trained": calibration, "with_temperature": calibration},
        "top1_by_views": [],
        "class_metrics": {
            "resampled": "groups",
            "units": 3,
            "resamples": 1000,
            "no_intervals": None,
            "macro": CLASS_METRICS,
            "micro": CLASS_METRICS,
            "sample_average_precision": CLASS_METRICS["recall"],
            "without_positives": [f"{text}2"],
            "without_predictions": [text],
            "counts": counts | {"positives": 4},
            "per_class": [
                {"label": text, "positives": 4, **counts, **CLASS_METRICS},
                {"label": f"{text}2", "positives": 0, **counts, **CLASS_METRICS},
            ],
        },
        "operating_point": {
            "rule": text,
            "validation_videos": 7,
            "without_threshold": [f"{text}2"],
            "macro": CLASS_METRICS,
            "micro": CLASS_METRICS,
            "without_predictions": [text],
            "counts": counts | {"positives": 4},
            "per_class": [{"label": text, "threshold": 0.25, "positives": 4, **counts, **CLASS_METRICS}],
        },
    }
    return render_test_report(report, {text: text, f"{text}2": f"{text}2"}, list_confused=True)


def verify_report(text: str) -> str:
    report = {
        "videos": 9,
        "hours": 0.25,
        "undecodable": [(text, text), (text, text)],
        "leaks": [(text, text, text, text, text)],
        "same_file": [[text, text, text]],
        "other_labels": [(text, text, text, text)],
        "repeated_rows": [(text, text, 2)],
        "look_alike": [(text, text)],
        "classes_without_videos": [(text, text)],
        "decord_differs_on": [text],
        "durations": {"0%": 1.25, "100%": 2.5},
        "resolutions": {"64 x 48": 9},
        "fallbacks": {text: 3},
    }
    return render_verify_report(report, reasons={text: 2}, left_out=text)


NETWORK = awake(labels=["bow", "wave"])


def card(text: str) -> str:
    """The card's Markdown, without the front matter."""
    report = {
        "checkpoint": text,
        "manifest": text,
        "root": text,
        "manifest_hash": text,
        "scored_among": text,
        "videos": 4,
        "num_clips": 2,
        "num_crops": 1,
        **METRICS,
    }
    data = {"train": {"manifest": text.replace("/", ""), "hash": text, "videos": text, "classes": text}}
    NETWORK.labels = [text, text]
    NETWORK.config |= {"insert": {text: [1]}, "backbone_options": {text: text}, "block_options": {text: text}}
    return model_card(NETWORK, text, data=data, report=report).split("\n---\n", 1)[1]


HTML: dict[str, Callable[[str], str]] = {
    "training report": training_report,
    "explanation page": explanation_page,
    "server": server_parts,
}
MARKDOWN: dict[str, Callable[[str], str]] = {"test report": test_report, "verify report": verify_report, "card": card}
