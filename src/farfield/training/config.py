"""Build a run from a training config: parser, run folder, callbacks, trainer, module and data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from jsonargparse import class_from_function
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from farfield.allocator import keep_freed_memory
from farfield.build import resolve_clip
from farfield.clip_spec import ClipOptions
from farfield.code_version import code_version
from farfield.data.datamodule import VideoDataModule
from farfield.errors import FarfieldError
from farfield.lightning_errors import lightning_errors_as_ours
from farfield.options.parser import CommandParser, ConfigAction
from farfield.precision import check_mixed_precision
from farfield.probing.checks import check_probe
from farfield.probing.options import ProbeSettings
from farfield.task import DEFAULT_TASK, Task
from farfield.training.checkpointing import AtomicCheckpointIO, RandomState, checkpoint_callbacks
from farfield.training.compatibility import check_compatible, check_seed
from farfield.training.early_stopping import StopEarly
from farfield.training.exponential_moving_average import ExponentialMovingAverage
from farfield.training.gradient_norms import GradientNorms
from farfield.training.lightning_module import build_training_module
from farfield.training.monitor import EARLY_STOPPING, MONITORS, Monitor, best_monitor, uneven_classes_hint
from farfield.training.nan_guard import NaNGuard
from farfield.training.precise_batch_norm import PreciseBatchNorm
from farfield.training.probe_trainer import check_probe_options, probe_trainer
from farfield.training.provenance import weights_provenance
from farfield.training.run_folder import RunFiles
from farfield.training.run_report import ReportSettings, RunReport
from farfield.training.skipped_videos import SkippedVideos
from farfield.training.teacher import teacher_clip
from farfield.training.throughput import Throughput
from farfield.training.wandb_logging import WandbArtifacts, WandbSettings, make_wandb_logger, sweep_folder

log = logging.getLogger("farfield")

_MODULE_CLASS = class_from_function(build_training_module)
"""Class with the options of `build_training_module`. LightningCLI would create it for each run, which is slow."""


def _with_value(words: list[str]) -> list[str]:
    """Replace `--probe` with `--probe=true` if no value follows it."""
    following = [*words[1:], "--"]
    return [
        "--probe=true" if word == "--probe" and after.startswith("--") else word
        for word, after in zip(words, following, strict=False)  # no words have one following
    ]


def _configs_first(words: list[str]) -> list[str]:
    """Move --config and its values to the front, so that all other options override the config, wherever they stand."""
    configs: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--config":
            configs += [word, *islice(rest, 1)]
        else:
            (configs if word.startswith("--config=") else others).append(word)
    return configs + others


class _TrainingParser(CommandParser, LightningArgumentParser):
    pass


class TrainingRun(LightningCLI):
    """LightningCLI with a run folder, farfield's callbacks, and data that is read with the network's clip settings."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = _TrainingParser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigAction,
            help="a YAML file, or the name of a recipe from `farfield configs`; options after it override its values",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str,
            required=True,
            help="folder for everything that the run writes. checkpoints/last.ckpt is written after each epoch. "
            "checkpoints/best.ckpt holds the best epoch, see --monitor; ties go to the later epoch. "
            "Validation uses one central view per video, and the averaged weights if optimisation.ema_decay is set",
        )
        parser.add_argument(
            "--resume", type=bool, default=False, help="resume from the run folder's last checkpoint, if there is one"
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            default=None,
            help="optimiser steps between writes of last.ckpt within an epoch; with null, only after each epoch",
        )
        parser.add_argument(
            "--monitor",
            type=Monitor | None,
            default=None,
            help="validation metric that chooses best.ckpt and stops early (early_stopping_epochs): the highest "
            "val/top1, val/mean_class_accuracy or val/map (mean average precision), or the lowest val/loss. null "
            "chooses best.ckpt by val/top1 (for a multilabel task, by val/map) and stops early by val/loss. val/loss "
            "is the unweighted cross entropy, whatever the training loss is. A multilabel task has only val/map and "
            "val/loss, a multi_head task only val/top1 and val/loss",
        )
        parser.add_argument(
            "--probe",
            type=ProbeSettings | bool,
            default=False,
            help="freeze the network, compute its features once, and train only heads on them: true for the default "
            "heads, or options, such as --probe.heads [linear]; --probe.help lists the options. The best head becomes "
            "checkpoints/best.ckpt. Options of the optimiser, of Weights & Biases and of the report then have no "
            "effect",
        )
        parser.add_class_arguments(WandbSettings, "wandb")
        parser.add_class_arguments(ReportSettings, "report")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        of_clip = (
            "model.backbone", "model.clip", "model.weights", "model.backbone_options", "model.block_options",
        )  # fmt: skip
        parser.link_arguments(of_clip, "data.clip", compute_fn=clip_values)
        parser.link_arguments("model.teacher", "data.teacher_clip", compute_fn=teacher_clip)
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.link_arguments("model.task", "data.task", compute_fn=_task)
        parser.link_arguments("data.class_counts", "model.class_counts", apply_on="instantiate")
        parser.link_arguments("data.num_training_videos", "model.num_training_videos", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        shown = "--print_config" in args
        super().parse_arguments(
            parser, _configs_first([word for word in _with_value(args) if word != "--print_config"])
        )
        check_seed(self.config.seed_everything)
        # Every value, for the run's record.
        model = self.config.model
        model.clip = clip_values(model.backbone, model.clip, model.weights, model.backbone_options, model.block_options)
        if shown:
            print(parser.dump(self.config, skip_unset=False), end="")
            raise SystemExit(0)

    def before_instantiate_classes(self) -> None:
        self.config_dump: dict[str, Any] = {}  # Lightning dumps the config as hyperparameters, which no module saves
        self.run_dir = sweep_folder(Path(self.config.run_dir))
        self.last_checkpoint = self.run_dir / "checkpoints" / "last.ckpt"
        is_probe = self.config.probe is not False
        of_probe = self.run_dir / "probe.json"
        written, other = (of_probe, self.last_checkpoint) if is_probe else (self.last_checkpoint, of_probe)
        if self.run_dir.exists() and not self.run_dir.is_dir():
            raise FarfieldError(f"run_dir is {self.run_dir}, which is a file. Give a folder.")
        if other.exists():
            kinds = ("a training run", "a probe") if is_probe else ("a probe", "a training run")
            raise FarfieldError(
                f"{self.run_dir} holds {kinds[0]}; {kinds[1]} would replace its checkpoints. Give another run_dir."
            )
        if written.exists() and not self.config.resume:
            raise FarfieldError(
                f"{self.run_dir} already holds a run. Give --resume true to continue it (in Python, resume=True), or "
                "another run_dir."
            )

    @property
    def probe(self) -> ProbeSettings | None:
        """Options of the probe; None if the network itself is trained."""
        given = self.config_init.probe
        return ProbeSettings() if given is True else given or None

    @property
    def best_monitor(self) -> Monitor:
        """Validation metric that chooses the best checkpoint."""
        return best_monitor(self.config.monitor, _task(self.config.model.task))

    @property
    def resolved_config(self) -> str:
        """The config as YAML, with a value for every option, including defaults."""
        return self.parser.dump(self.config, skip_unset=False)

    def _about(self) -> dict[str, Any]:
        return {"code": code_version(), "weights": weights_provenance(self.config.model.weights)}

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the run: the code's version, and hashes of weights and manifests."""
        return self._about() | self.config_init.data.provenance()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        check_compatible(self.config, self.config_init.model)
        if self.probe is not None:
            check_probe_options(self.config)
            self.test_manifest = check_probe(self.config_init.data, self.probe)
            trainer = probe_trainer(self.config.trainer)
            self._make_run_dir()
            return trainer
        distiller = self.config_init.model.distiller
        if distiller is not None:
            distiller.find_videos(self.config_init.data)
        is_new = not self.run_dir.exists()
        self._make_run_dir()
        manifests, about = self.config_init.data.provenance(), self._about()
        if distiller is not None:
            about |= distiller.provenance
        tracked = self.config.as_dict() | {"manifests": manifests, "lineage": dict(about)}
        logger = make_wandb_logger(WandbSettings(**vars(self.config.wandb)), self.run_dir, tracked)
        more: dict[str, Any] = {
            "logger": logger or False,
            "callbacks": [*_several(self.config_init.trainer.callbacks), *self._callbacks(about | manifests, logger)],
            "plugins": [*_several(self.config_init.trainer.plugins), AtomicCheckpointIO()],
        }
        if self.config.data.val is None:
            more["limit_val_batches"] = 0
        try:
            with lightning_errors_as_ours(ValueError, TypeError):
                trainer = super().instantiate_trainer(**more, **kwargs)
            check_mixed_precision(trainer.precision)
        except FarfieldError:
            if is_new:
                with suppress(OSError):  # it already holds files of Weights & Biases
                    self.run_dir.rmdir()
            raise
        has_class_accuracy = "val/mean_class_accuracy" in MONITORS[_task(self.config.model.task)]
        if self.config.data.val is not None and has_class_accuracy and self.best_monitor == "val/top1":
            data = self.config_init.data
            if hint := uneven_classes_hint(data.labels, data.class_counts):
                log.info("%s", hint)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def _make_run_dir(self) -> None:
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)  # only now, so that rejected options leave no folder
        except OSError as error:
            raise FarfieldError(
                f"run_dir {self.run_dir} cannot be created: {error.strerror}. Give a folder that can be written."
            ) from error

    def _callbacks(self, about: dict[str, Any], logger: Logger | None) -> list[Callback]:
        """Return the callbacks that farfield adds, in the order in which they must run."""
        optimisation = self.config_init.model.optimisation
        config = self.resolved_config
        callbacks: list[Callback] = [
            Throughput(),
            SkippedVideos(self.run_dir),
            RunFiles(self.run_dir, config),
            RandomState(),
            NaNGuard(),
            GradientNorms(self.run_dir),
        ]
        if optimisation.early_stopping_epochs:
            callbacks.append(StopEarly(optimisation.early_stopping_epochs, self.config.monitor or EARLY_STOPPING))
        # After callbacks that may stop the run, to report on the last epoch; before the average is swapped out.
        callbacks.append(RunReport(self.run_dir, ReportSettings(**vars(self.config.report)), about, config))
        if optimisation.ema_decay is not None:
            callbacks.append(ExponentialMovingAverage(optimisation.ema_decay))
        if optimisation.precise_bn_batches:
            callbacks.append(PreciseBatchNorm(optimisation.precise_bn_batches))
        folder, has_validation = self.run_dir / "checkpoints", self.config.data.val is not None
        every = self.config.checkpoint_every_n_steps
        callbacks += checkpoint_callbacks(
            folder, every_n_steps=every, has_validation=has_validation, monitor=self.best_monitor
        )
        if self.config.wandb.artifacts and logger is not None:
            files = {name: Path(self.config.data[name]) for name in ("train", "val") if self.config.data[name]}
            callbacks.append(WandbArtifacts(files, folder))
        return callbacks


def _task(given: Task | None) -> Task:
    return given or DEFAULT_TASK


def _several(given: Any) -> list[Any]:
    """Return a list unchanged, None as an empty list, and any other value as a list of one."""
    return given if isinstance(given, list) else [] if given is None else [given]


def clip_values(
    backbone: str,
    clip: ClipOptions | None,
    weights: str | None,
    backbone_options: dict[str, Any] | None,
    block_options: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return all clip settings, by name, as plain types.

    Settings in the config (`clip`) override those stored with the weights. Both override the backbone's settings.
    """
    return resolve_clip(backbone, clip, weights, backbone_options, block_options).to_dict()


def make_run(arguments: Sequence[str]) -> TrainingRun:
    """Parse options, and build the trainer, the module and the data of a run.

    Args:
        arguments: command-line arguments of `farfield fit`.

    Raises:
        FarfieldError: if options are unknown, out of range or incompatible, or files cannot be read.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # it is meant for callers like this
        return TrainingRun(
            _MODULE_CLASS,
            VideoDataModule,
            run=False,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=None,  # the run folder's config.yaml holds resolved values
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10, "num_sanity_val_steps": 0},
            parser_kwargs={"prog": "farfield fit", "description": "Train a network from a config."},
            args=list(arguments),
        )
