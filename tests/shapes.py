"""Checks jaxtyping's shapes in signatures while tests run; production pays nothing for them."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it

install_import_hook(
    [
        "farfield.layers",
        "farfield.data.frame_sampling",
        "farfield.data.transforms",
        "farfield.evaluation.metrics",
        "farfield.scoring.joint_ranking",
        "farfield.task",
        "farfield.training.validation_metrics",
    ],
    "shapes.checked",
)
