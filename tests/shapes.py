"""Checks jaxtyping's shapes in signatures while tests run; production pays nothing for them."""

from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

LAYERS = Path(__file__).parents[1] / "src" / "farfield" / "layers"

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it

install_import_hook(
    [
        # A check is slow, and what recomputes activations has thousands of calls a step, but no shapes.
        *(f"farfield.layers.{path.stem}" for path in sorted(LAYERS.glob("*.py")) if "jaxtyping" in path.read_text()),
        "farfield.data.frame_sampling",
        "farfield.data.transforms",
        "farfield.evaluation.metrics",
        "farfield.scoring.joint_ranking",
        "farfield.task",
        "farfield.training.validation_metrics",
    ],
    "shapes.checked",
)
