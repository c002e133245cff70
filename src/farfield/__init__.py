"""farfield: video action recognition that sees the whole clip at once.

The public names load on first use, so that `import farfield` is fast and `from farfield.layers import ...` imports
only torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farfield.build import build_model
    from farfield.checkpoints.checkpoint import save_model
    from farfield.clip_spec import ClipSpec
    from farfield.errors import FarfieldError, VideoError
    from farfield.evaluation.evaluate import evaluate
    from farfield.evaluation.result import EvaluationResult
    from farfield.evaluation.timeline_result import TimelineResult
    from farfield.exporters.export import export
    from farfield.exporters.export_file import ExportReport
    from farfield.inference.predict import predict
    from farfield.inference.prediction_schema import Prediction
    from farfield.interpretability.explain import explain
    from farfield.interpretability.explanation import Explanation
    from farfield.scoring.load import load_model
    from farfield.timelines.options import TimelineOptions
    from farfield.training.train import TrainResult, train

    __version__: str

__all__ = [
    "ClipSpec",
    "EvaluationResult",
    "Explanation",
    "ExportReport",
    "FarfieldError",
    "Prediction",
    "TimelineOptions",
    "TimelineResult",
    "TrainResult",
    "VideoError",
    "build_model",
    "evaluate",
    "explain",
    "export",
    "load_model",
    "predict",
    "save_model",
    "train",
]

_MODULES = {
    "ClipSpec": "farfield.clip_spec",
    "EvaluationResult": "farfield.evaluation.result",
    "Explanation": "farfield.interpretability.explanation",
    "ExportReport": "farfield.exporters.export_file",
    "FarfieldError": "farfield.errors",
    "Prediction": "farfield.inference.prediction_schema",
    "TimelineOptions": "farfield.timelines.options",
    "TimelineResult": "farfield.evaluation.timeline_result",
    "TrainResult": "farfield.training.train",
    "VideoError": "farfield.errors",
    "build_model": "farfield.build",
    "evaluate": "farfield.evaluation.evaluate",
    "explain": "farfield.interpretability.explain",
    "export": "farfield.exporters.export",
    "load_model": "farfield.scoring.load",
    "predict": "farfield.inference.predict",
    "save_model": "farfield.checkpoints.checkpoint",
    "train": "farfield.training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # imported late: slower than the rest of this file

        return version("farfield")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'farfield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
