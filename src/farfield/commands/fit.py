"""`farfield fit`: train a network as a config says."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from farfield.allocator import keep_freed_memory
from farfield.build import resolve_clip
from farfield.checkpoints.checkpoint import checkpoint_metadata, read_checkpoint
from farfield.clip_spec import ClipOptions
from farfield.commands.console import as_mistakes, quiet_libraries
from farfield.commands.parser import CommandParser, ConfigAction
from farfield.data.datamodule import VideoDataModule
from farfield.errors import FarfieldError
from farfield.training.callbacks import SkippedVideos, StopEarly, Throughput
from farfield.training.checkpointing import BEST_CHECKPOINT, AtomicCheckpointIO, RandomState, checkpoints
from farfield.training.exponential_moving_average import ExponentialMovingAverage
from farfield.training.fsdp import FullySharded
from farfield.training.gradient_norms import GradientNorms
from farfield.training.lightning_module import TrainingModule, build_training_module
from farfield.training.mixed_precision import check_precision
from farfield.training.nan_guard import NaNGuard
from farfield.training.optimisation import Optimisation
from farfield.training.precise_batch_norm import PreciseBatchNorm
from farfield.training.provenance import code_version, weights_provenance
from farfield.training.resumed_schedule import schedule_before
from farfield.training.run_folder import RunFiles
from farfield.training.run_report import ReportSettings, RunReport
from farfield.training.wandb_logging import WandbArtifacts, WandbSettings, make_wandb_logger, sweep_folder

log = logging.getLogger("farfield")


class _FitParser(CommandParser, LightningArgumentParser):
    pass


class FitCLI(LightningCLI):
    """LightningCLI with a run folder, our callbacks, and the network's clips handed to the data."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = _FitParser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigAction,
            help="a YAML file, or the name of a recipe that `farfield configs` lists; later options override it",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str,
            required=True,
            help="folder for everything that the run writes. Its checkpoints/last.ckpt is of the last epoch, best.ckpt "
            "of the one with the highest val/top1: one central view a video, of the averaged weights where there are "
            "any; of equal ones the later",
        )
        parser.add_argument(
            "--resume", type=bool, default=False, help="go on from the run folder's last checkpoint, if there is one"
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            default=None,
            help="write last.ckpt also every so many steps, for long epochs; null for after each epoch only",
        )
        parser.add_class_arguments(WandbSettings, "wandb")
        parser.add_class_arguments(ReportSettings, "report")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        of_clip = (
            "model.backbone", "model.clip", "model.weights", "model.backbone_options", "model.block_options",
        )  # fmt: skip
        parser.link_arguments(of_clip, "data.clip", compute_fn=clip_values)
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        shown = "--print_config" in args
        super().parse_arguments(parser, [word for word in args if word != "--print_config"])
        # Every value, for the run's record.
        model = self.config.model
        model.clip = clip_values(model.backbone, model.clip, model.weights, model.backbone_options, model.block_options)
        if shown:
            print(parser.dump(self.config, skip_none=False), end="")
            raise SystemExit(0)

    def before_instantiate_classes(self) -> None:
        self.run_dir = sweep_folder(Path(self.config.run_dir))
        self.last_checkpoint = self.run_dir / "checkpoints" / "last.ckpt"
        if self.run_dir.exists() and not self.run_dir.is_dir():
            raise FarfieldError(f"run_dir is {self.run_dir}, which is a file. Give a folder.")
        if self.last_checkpoint.exists() and not self.config.resume:
            raise FarfieldError(
                f"{self.run_dir} holds a run already. Give --resume true to go on with it, or another --run_dir."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        refuse_what_cannot_be(self.config, self.config_init.model.optimisation)
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)  # only now: a refused network or data set leaves no folder
        except OSError as error:
            raise FarfieldError(f"run_dir {self.run_dir} cannot be made: {error.strerror}.") from error
        manifests = self.config_init.data.provenance()
        about: dict[str, Any] = {"code": code_version(), "weights": weights_provenance(self.config.model.weights)}
        tracked = self.config.as_dict() | {"manifests": manifests, "lineage": dict(about)}
        logger = make_wandb_logger(WandbSettings(**vars(self.config.wandb)), self.run_dir, tracked)
        more: dict[str, Any] = {
            "logger": logger or False,
            "callbacks": [*_several(self.config_init.trainer.callbacks), *self._callbacks(about | manifests, logger)],
            "plugins": [*_several(self.config_init.trainer.plugins), AtomicCheckpointIO()],
        }
        if self.config.data.val is None:
            more["limit_val_batches"] = 0
        with as_mistakes(ValueError):
            trainer = super().instantiate_trainer(**more, **kwargs)
        check_precision(trainer)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def _callbacks(self, about: dict[str, Any], logger: Logger | None) -> list[Callback]:
        """Ours, in the order in which they must come."""
        optimisation: Optimisation = self.config_init.model.optimisation
        config = self.parser.dump(self.config, skip_none=False)
        callbacks: list[Callback] = [
            Throughput(),
            SkippedVideos(self.run_dir),
            RunFiles(self.run_dir, config),
            RandomState(),
            NaNGuard(),
            GradientNorms(self.run_dir),
        ]
        if optimisation.early_stopping_epochs:
            callbacks.append(StopEarly(optimisation.early_stopping_epochs))
        # After what may stop the run, since it reports on the last epoch; before the averages leave the network again.
        callbacks.append(RunReport(self.run_dir, ReportSettings(**vars(self.config.report)), about, config))
        if optimisation.ema_decay is not None:
            callbacks.append(ExponentialMovingAverage(optimisation.ema_decay))
        if optimisation.precise_bn_batches:
            callbacks.append(PreciseBatchNorm(optimisation.precise_bn_batches))
        folder, has_validation = self.run_dir / "checkpoints", self.config.data.val is not None
        every = self.config.checkpoint_every_n_steps
        callbacks += checkpoints(folder, every_n_steps=every, has_validation=has_validation)
        if self.config.wandb.artifacts and logger is not None:
            files = {name: Path(self.config.data[name]) for name in ("train", "val") if self.config.data[name]}
            callbacks.append(WandbArtifacts(files, folder))
        return callbacks


def _several(given: Any) -> list[Any]:
    """What may be given as a list, as one, or not at all."""
    return given if isinstance(given, list) else [] if given is None else [given]


def refuse_what_cannot_be(config: Any, optimisation: Optimisation) -> None:
    """Raises for settings that do not go together, before anything is written."""
    every = config.checkpoint_every_n_steps
    if every is not None and every < 1:
        raise FarfieldError(f"checkpoint_every_n_steps is {every}; it must be at least 1, or null.")
    if str(config.trainer.strategy).startswith("fsdp") and config.trainer.strategy != FullySharded.NAME:
        raise FarfieldError(
            f"trainer.strategy is {config.trainer.strategy}, PyTorch's first form of sharding, by which "
            f"reports and uneven validations would wait for ever. Take {FullySharded.NAME}."
        )
    if config.trainer.logger is not None:
        raise FarfieldError(
            "trainer.logger has no effect: figures go to metrics.csv and to Weights & Biases. Leave it out; "
            "--wandb.mode says whether they go there."
        )
    if config.trainer.overfit_batches:
        raise FarfieldError(
            "trainer.overfit_batches cannot be had: batches come in an order of our own. Give a manifest of a few "
            "videos as data.train; `farfield data subset` makes one."
        )
    if config.data.batch_size % optimisation.sub_batch_norm_splits:
        raise FarfieldError(
            f"optimisation.sub_batch_norm_splits is {optimisation.sub_batch_norm_splits} and data.batch_size "
            f"{config.data.batch_size}; the first must divide the second."
        )
    if config.data.val is None and (optimisation.precise_bn_batches or optimisation.early_stopping_epochs):
        raise FarfieldError(
            "optimisation has precise_bn_batches or early_stopping_epochs, which belong to validations, and there are "
            "none. Give data.val, or leave them out."
        )


def clip_values(
    backbone: str,
    clip: ClipOptions | None,
    weights: str | None,
    backbone_options: dict[str, Any] | None,
    block_options: dict[str, Any] | None,
) -> dict[str, Any]:
    """The clips of the weights or the backbone with what the config changes of them, as a `ClipSpec`'s values."""
    return resolve_clip(backbone, clip, weights, backbone_options, block_options).to_dict()


def fit(arguments: Sequence[str]) -> int:
    """Trains as the options say. `python -m farfield fit --help` lists them."""
    quiet_libraries()
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # set by Lightning
        log.setLevel(logging.WARNING)  # the first process says it for all
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # it is meant for a library's caller
        cli = FitCLI(
            build_training_module,
            VideoDataModule,
            run=False,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=None,  # the run folder's config.yaml holds resolved values
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10, "num_sanity_val_steps": 0},
            parser_kwargs={"prog": "farfield fit", "description": "Trains a network as a config says."},
            args=list(arguments),
        )
    resumed = cli.last_checkpoint if cli.last_checkpoint.exists() else None
    done = -1
    if resumed is not None:
        done = _must_match(resumed, cli.model)
        log.info("resuming from %s", resumed)
    elif cli.config.resume:
        log.info("%s holds no checkpoint to resume from: a new run begins", cli.run_dir)
    exit_code = 1
    try:
        with as_mistakes():
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resumed, weights_only=True)
        exit_code = 0
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        if cli.trainer.received_sigterm:
            log.warning("terminated; go on with the same command and --resume true")
            return 143
        kept = "go on with" if cli.last_checkpoint.exists() else "nothing was saved yet; begin again with"
        log.warning("interrupted; %s the same command and --resume true", kept)
        return 130
    finally:
        if isinstance(cli.trainer.logger, WandbLogger):
            cli.trainer.logger.experiment.finish(exit_code=exit_code)  # writes what it still holds
    if cli.trainer.global_step == done:
        log.info("nothing was left to train: the run is at its end. Raise trainer.max_epochs or max_steps to go on")
        if cli.model.optimisation.schedule == "cosine":
            log.info("its cosine has ended, too: see model.optimisation.schedule_length in farfield fit --help")
    _tell_checkpoints(cli.last_checkpoint)
    return 0


def _tell_checkpoints(last: Path) -> None:
    best = last.with_name("best.ckpt")
    if best.exists():
        content = read_checkpoint(best)
        state = next(each for name, each in content["callbacks"].items() if name.startswith(BEST_CHECKPOINT))
        top1 = 100 * float(state["best_model_score"])
        log.info("%s is of epoch %d, with the highest val/top1: %.1f%%", best, content["epoch"] + 1, top1)
    elif last.exists():
        log.info("checkpoints: %s", last)


def _must_match(checkpoint: Path, model: TrainingModule) -> int:
    """Raises where a run cannot go on from a checkpoint; tells the model of its schedule, and returns its steps."""
    content = read_checkpoint(checkpoint)
    found, wanted = content["farfield"]["model"], checkpoint_metadata(model.network)["model"]
    if "current_model_state" in content and model.optimisation.ema_decay is None:
        raise FarfieldError(
            f"{checkpoint} holds averaged weights, and those that they are the average of; without "
            "optimisation.ema_decay, training would go on from the average. Give it as before."
        )
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        shown = "; ".join(f"{name} was {found.get(name)}, now {wanted[name]}" for name in differing)
        raise FarfieldError(
            f"{checkpoint} is of another network: {shown}. Resume with the same, or choose another --run_dir."
        )
    now = asdict(model.optimisation)
    before = content["farfield"].get("optimisation", {})  # older checkpoints do not say
    changed = [name for name in before if name in now and before[name] != now[name]]
    shown = "; ".join(f"{name} was {before[name]}, now {now[name]}" for name in changed)
    if fixed := [name for name in changed if name in _OF_THE_OPTIMISER]:
        raise FarfieldError(
            f"{checkpoint} was trained otherwise: {shown}. Resume with the same {', '.join(fixed)}, which the "
            "optimiser's state depends on, or choose another --run_dir."
        )
    if changed:
        log.info("resuming with other settings: %s", shown)
    model.schedule_before = schedule_before(content)
    return model.schedule_before.step


_OF_THE_OPTIMISER = ("optimizer", "freeze_through", "freeze_batch_norm", "layer_decay")
