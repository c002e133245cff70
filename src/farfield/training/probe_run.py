"""Run a probe that `make_run` has set up: train heads on features of a frozen network.

The loss is the training loss of the network's task.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from farfield.atomic_write import write_text_atomically
from farfield.probing.head_training import Measure
from farfield.probing.options import ProbeSettings
from farfield.probing.probe import run_probe
from farfield.probing.report import write_probe_files
from farfield.probing.result import ProbeResult
from farfield.progress import progress_bars
from farfield.training.config import TrainingRun
from farfield.training.lightning_module import TrainingModule
from farfield.training.monitor import best_mode
from farfield.training.validation_metrics import LOSS, MAP, TOP1, validation_figures

log = logging.getLogger("farfield")


def train_probe(run: TrainingRun) -> ProbeResult:
    """Run a probe: train heads on features of the frozen network, and write the results to the run folder.

    Raises:
        FarfieldError: see `run_probe`.
        KeyboardInterrupt: if interrupted.
    """
    module, settings = run.model, run.probe or ProbeSettings()
    if run.config.model.weights is None:
        log.warning("model.weights is not set: the heads are trained on features of a network with random weights")
    write_text_atomically(run.run_dir / "config.yaml", run.resolved_config)
    trainer = run.trainer
    device = trainer.strategy.root_device
    module.to(device)  # class weights of the loss
    monitor = run.best_monitor
    measure = Measure(
        loss=partial(_loss, module),
        figures=lambda probabilities, targets: validation_figures(module.network, probabilities, targets)[0],
        monitor=monitor,
        mode=best_mode(monitor),
        loss_figure=LOSS,
        curve_figure=MAP if module.network.task == "multilabel" else TOP1,
    )
    with progress_bars(bool(run.config.trainer.enable_progress_bar is not False)):
        result = run_probe(
            module.network,
            run.datamodule,
            settings,
            measure,
            test_manifest=run.test_manifest,
            run_dir=run.run_dir,
            device=device,
            forward_context=trainer.precision_plugin.forward_context,
            precision=str(trainer.precision),
        )
    write_probe_files(result, run.run_dir, about=run.provenance(), config=run.resolved_config)
    return result


@dataclass
class _Features:
    """A batch with the clips' features in place of the clips."""

    labels: Tensor
    clips: Any = None
    draw: Any = None


def _loss(module: TrainingModule, scores: Tensor, targets: Tensor) -> Tensor:
    return module.batch_loss(scores, _Features(targets))
