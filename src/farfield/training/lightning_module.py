"""The LightningModule: training, validation and test steps, optimiser, and checkpoint content."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from farfield.build import build_model
from farfield.checkpoints.checkpoint import checkpoint_metadata
from farfield.distributed import all_gather_list
from farfield.errors import FarfieldError
from farfield.layers import split_batch_norm
from farfield.layers.channels_last import to_channels_last_3d
from farfield.lightning_compat import data_module, synchronize_batch_norm
from farfield.models.network import ActionNet
from farfield.scoring.aggregation import aggregate_views, view_probabilities
from farfield.scoring.score_views import score_clips
from farfield.training.class_weights import compute_class_weights, compute_pos_weight
from farfield.training.distillation import Distillation
from farfield.training.distilled_loss import Distiller
from farfield.training.execution import Execution, apply_execution
from farfield.training.freezing import freeze_parts
from farfield.training.fsdp import shard
from farfield.training.layer_decay import learning_rate_scales
from farfield.training.loss import ClipBatch, LossSettings, classification_loss, labelled_part
from farfield.training.multi_head_loss import multi_head_loss
from farfield.training.multilabel_loss import multilabel_loss
from farfield.training.optimisation import Optimisation, make_optimizer
from farfield.training.region_loss import region_logits, region_loss, supervises_regions
from farfield.training.schedule import PreviousSchedule, lr_factor, resumed_total_steps, scale_lr
from farfield.training.short_clip_conv import correct_short_clip_gradients
from farfield.training.step_counts import clips_per_step, optimizer_steps
from farfield.training.validation_metrics import validation_figures

log = logging.getLogger("farfield")


class TrainingModule(LightningModule):
    """Lightning module that trains and validates a network.

    Args:
        network: network to train; its keys in a checkpoint start with "network.".
        optimisation: training hyperparameters.
        execution: settings that change speed and memory. They change results by rounding only.
        loss: class weights and focal loss.
        class_counts: number of training videos of each class; needed for `loss.class_weights`, and if `loss.pos_weight`
            is "balanced".
        num_training_videos: number of training videos; needed if `loss.pos_weight` is "balanced".
        view_batch_size: maximum number of views per forward pass in validation; a smaller number needs less memory.
            None for no limit.
        distillation: the teacher, its weight in the loss, and the temperature; None for no teacher.

    Raises:
        FarfieldError: if `loss` has a weight for an unknown class; if `loss.class_weights` or `loss.pos_weight` is set,
            but the network's task does not support it; if `class_counts` or `num_training_videos` is needed but None.
    """

    def __init__(
        self,
        network: ActionNet,
        optimisation: Optimisation | None = None,
        *,
        execution: Execution | None = None,
        loss: LossSettings | None = None,
        class_counts: Sequence[int] | None = None,
        num_training_videos: int | None = None,
        view_batch_size: int | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        network.refuse_folded("trained")
        self.optimisation = optimisation or Optimisation()
        self.loss = loss or LossSettings()
        _check_loss(self.loss, network)
        self.class_weights: Tensor | None
        self.pos_weight: Tensor | None
        # Not persistent: checkpoints of earlier versions lack them, and they follow from the config and the manifest.
        weights = compute_class_weights(self.loss, network.labels, class_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        pos_weight = compute_pos_weight(self.loss, network.labels, class_counts, num_training_videos)
        self.register_buffer("pos_weight", pos_weight, persistent=False)
        freeze_parts(network, self.optimisation)
        if self.optimisation.sub_batch_norm_splits > 1:
            split_batch_norm(network, self.optimisation.sub_batch_norm_splits)
        correct_short_clip_gradients(network)
        # The memory format of the batches, in which 3D convolutions and norms are faster.
        self.network = to_channels_last_3d(network)
        has_region_loss = self.optimisation.region_loss_weight > 0 and supervises_regions(network)
        self.execution = execution or Execution()
        apply_execution(network, self.execution, has_region_loss=has_region_loss)
        self.view_batch_size = view_batch_size
        self.distiller = Distiller.make(distillation, network)
        """Teacher and its weight in the loss; None without a teacher. It is not registered as a submodule."""
        self.previous_schedule: PreviousSchedule | None = None
        """Learning-rate schedule of the checkpoint from which the run is resumed; None for a new run."""
        self._schedule: dict[str, Any] = {}
        # Saved in checkpoints, so that the metrics of an epoch that was interrupted and resumed cover all its batches.
        self.train_loss, self.train_top1 = (
            MeanMetric(),
            MulticlassAccuracy(max(len(network.labels), 2), average="micro"),
        )
        self.train_loss.persistent(True)
        self.train_top1.persistent(True)
        self.val_confusion_matrix: Tensor | None = None
        """Confusion matrix of the last validation; None unless the task is `single_label`."""
        self.val_scores: list[tuple[Tensor, Tensor, Tensor]] = []
        """(indices, labels, probabilities) of each batch of the last validation, from all processes."""

    def configure_model(self) -> None:
        mesh = self.device_mesh  # None for strategies that do not shard
        if mesh is not None and not isinstance(self.network, FSDPModule):
            network: Any = synchronize_batch_norm(self.trainer.strategy, self.network)
            shard(network, mesh["data_parallel"])

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        return self.network(clips)

    def on_train_start(self) -> None:
        """Apply the config's optimiser settings; on resume, Lightning has replaced them with the checkpoint's."""
        optimizer, scheduler = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, LambdaLR)
        for group, settings, factor in zip(
            optimizer.param_groups, self._group_settings, scheduler.lr_lambdas, strict=True
        ):
            group.update(settings, lr=settings["initial_lr"] * factor(scheduler.last_epoch))
        scheduler.base_lrs = [settings["initial_lr"] for settings in self._group_settings]

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        if batch_idx == 0:  # a checkpoint written at the end of an epoch has that epoch's sums
            self.train_loss.reset()
            self.train_top1.reset()
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.zero_grad()  # before the forward pass, to free the gradients' memory; Lightning does it after

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        with region_logits(self.network) as regions, self.execution.forward_context():
            logits = self(batch.clips)
        is_labelled = getattr(batch, "is_labelled", None)
        loss = self.batch_loss(logits, batch)
        if self.distiller is not None:
            soft = self.distiller.soft_loss(logits, batch)
            self.log(
                "train/soft_loss", soft, on_step=False, on_epoch=True, batch_size=len(batch.labels), sync_dist=True
            )
            loss = self.distiller.total(loss, soft)
        if regions and self.optimisation.region_loss_weight:
            auxiliary = region_loss(regions, *labelled_part(batch, is_labelled))
            self.log(
                "train/region_loss",
                auxiliary,
                on_step=False,
                on_epoch=True,
                batch_size=len(batch.labels),
                sync_dist=True,
            )
            loss = loss + self.optimisation.region_loss_weight * auxiliary
        self.train_loss.update(loss.detach(), weight=len(batch.labels))
        if self.network.task == "single_label":
            if is_labelled is None:
                self.train_top1.update(logits.detach(), batch.labels)
            elif is_labelled.any():  # torchmetrics refuses empty batches
                self.train_top1.update(logits.detach()[is_labelled], batch.labels[is_labelled])
            self.log("train/top1", self.train_top1, on_step=False, on_epoch=True)
        self.last_loss, self.last_lr = loss.detach(), self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict({"train/loss_step": loss, "lr": self.last_lr}, prog_bar=True)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        scale = self._accumulation_scale(batch_idx)
        return loss if scale == 1 else loss * scale

    def _accumulation_scale(self, batch_idx: int) -> float:
        """Return the factor of a batch's loss by which each step has the mean gradient of its batches.

        Lightning divides each loss by `accumulate_grad_batches`, also in an epoch's last step, which may have fewer
        batches. For their losses, the factor is above 1.
        """
        every = self.trainer.accumulate_grad_batches
        if every == 1:
            return 1.0
        first = batch_idx - batch_idx % every
        return every / min(every, data_module(self.trainer).batches_per_epoch() - first)

    def batch_loss(self, logits: Float[Tensor, "b classes"], batch: ClipBatch) -> Float[Tensor, ""]:
        """Compute the training loss of a batch from the network's output, without the distillation loss."""
        labelled, weights = labelled_part(batch, getattr(batch, "is_labelled", None))
        shared: dict[str, Any] = {
            "label_smoothing": self.optimisation.label_smoothing,
            "focal_gamma": self.loss.focal_gamma,
            "clip_weights": weights,
        }
        if self.network.task == "multilabel":
            return multilabel_loss(logits, labelled, pos_weight=self.pos_weight, **shared)
        if self.network.task == "multi_head":
            return multi_head_loss(logits, labelled, self.network.head.head_sizes or [], **shared)
        return classification_loss(logits, labelled, class_weights=self.class_weights, **shared)

    def on_validation_epoch_start(self) -> None:
        self.val_scores = []

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        probabilities = aggregate_views(self.score(batch), method=self.network.clip.views_aggregation)
        if len(batch.labels) == 0:  # no video of the batch could be read
            return probabilities
        self.val_scores.append((batch.indices.cpu(), batch.labels.cpu(), probabilities.cpu()))
        return probabilities

    def on_validation_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            self.val_scores = all_gather_list(self.val_scores)
        if not self.val_scores:
            if self.trainer.sanity_checking:
                return
            raise FarfieldError(
                "none of the validation videos can be read; skipped_videos.csv in the run folder gives the reasons. "
                "Check the paths in data.val."
            )
        _, labels, probabilities = (torch.cat(parts) for parts in zip(*self.val_scores, strict=True))
        figures, self.val_confusion_matrix = validation_figures(self.network, probabilities, labels)
        self.log_dict(figures, prog_bar=True, sync_dist=True)  # equal in all processes; sync_dist avoids a warning

    def score(self, batch: ClipBatch) -> Float[Tensor, "b views classes"]:
        """Compute class probabilities for each view of each video in a batch."""
        videos = len(batch.labels)
        if videos == 0:
            return torch.empty(0, 1, len(self.network.labels), device=self.device)
        pieces = batch.clips.split(self.view_batch_size or len(batch.clips))
        return view_probabilities(score_clips(self, pieces).logits, videos, self.network.task)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps_per_epoch, total_steps = optimizer_steps(self.trainer)
        if total_steps is None and self.optimisation.schedule == "cosine":
            raise FarfieldError(
                "optimisation.schedule is 'cosine', which needs the length of the run, but no length is set. Set "
                "trainer.max_epochs or trainer.max_steps, or use optimisation.schedule: steps."
            )
        settings = scale_lr(self.optimisation, clips_per_step(self.trainer))
        run_steps = total_steps
        if self.previous_schedule is not None and total_steps is not None:
            total_steps = resumed_total_steps(
                self.previous_schedule, settings, steps_per_epoch=steps_per_epoch, total_steps=total_steps
            )
        self._schedule = {"steps_per_epoch": steps_per_epoch, "total_steps": total_steps, "run_steps": run_steps}
        factor = partial(lr_factor, settings=settings, steps_per_epoch=steps_per_epoch, total_steps=total_steps or 0)
        scales = None if settings.layer_decay == 1 else learning_rate_scales(self.network, settings.layer_decay)
        optimizer = make_optimizer(self.network, settings, scales)
        scheduler = LambdaLR(optimizer, factor)
        self._group_settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        settings = {
            "optimisation": asdict(self.optimisation),
            "loss": asdict(self.loss),
            "schedule": self._schedule,
        }
        checkpoint["farfield"] = {**checkpoint_metadata(self.network), **settings}
        data = data_module(self.trainer)
        if data is not None:
            checkpoint["farfield"]["data"] = data.provenance()
        if self.distiller is not None:
            checkpoint["farfield"]["distillation"] = self.distiller.provenance


def build_training_module(
    labels: list[str],
    *,
    class_counts: list[int] | None = None,
    num_training_videos: int | None = None,
    optimisation: Optimisation = Optimisation(),  # noqa: B008  # frozen
    execution: Execution = Execution(),  # noqa: B008  # frozen
    loss: LossSettings = LossSettings(),  # noqa: B008  # frozen
    teacher: str | None = None,
    teacher_scores: str | None = None,
    teacher_weight: float = Distillation.teacher_weight,
    temperature: float = Distillation.temperature,
    **network: Any,
) -> TrainingModule:
    """Build a network and wrap it in a `TrainingModule`. Further options are those of `build_model`.

    Args:
        labels: class names, from the training manifest.
        class_counts: number of training videos of each class, from the training manifest.
        num_training_videos: number of training videos, from the training manifest.
        optimisation: learning rate, schedule and regularisation.
        execution: settings that change speed and memory. They change results by rounding only.
        loss: class weights and focal loss, for classes with uneven numbers of videos.
        teacher: path of the network to distil: a checkpoint, or a folder or file that `farfield export` wrote. The
            teacher scores the same seconds and regions of the videos as the student, at its own input size. It must
            have every class of the student.
        teacher_scores: path of a file with stored teacher scores of the training videos, to use instead of `teacher`:
            scores.npz of `farfield test`, or predictions.jsonl of `farfield predict --out FOLDER --top_k N`, where N is
            the number of the teacher's classes.
        teacher_weight: weight w of the teacher's probabilities in the loss, 0 to 1; the weight of the labels is 1 - w.
        temperature: divisor of both networks' scores before they are compared; above 1, less probable classes count
            more.
        network: further arguments of `build_model`. jsonargparse finds the call of `build_model` in this function, and
            makes an option of each argument that the call does not set.
    """
    distillation = Distillation(teacher, teacher_scores, teacher_weight, temperature)
    built = build_model(labels=labels, num_classes=None, head_windows=None, **network)
    return TrainingModule(
        built,
        optimisation,
        execution=execution,
        loss=loss,
        class_counts=class_counts,
        num_training_videos=num_training_videos,
        distillation=distillation,
    )


def _check_loss(loss: LossSettings, network: ActionNet) -> None:
    """Check that the network's task supports `loss.class_weights` and `loss.pos_weight`, if they are set.

    Raises:
        FarfieldError: for `class_weights` unless the task is `single_label`, or `pos_weight` unless it is `multilabel`.
    """
    if network.task != "single_label" and loss.class_weights is not None:
        raise FarfieldError(
            f"loss.class_weights is for networks of task 'single_label', but the network's task is '{network.task}'. "
            "Leave out loss.class_weights. For task 'multilabel', set loss.pos_weight, the weight of each class's "
            "positives."
        )
    if network.task != "multilabel" and loss.pos_weight is not None:
        raise FarfieldError(
            f"loss.pos_weight is for networks of task 'multilabel', but the network's task is '{network.task}'. Leave "
            "out loss.pos_weight. For task 'single_label', set loss.class_weights, the weight of each class."
        )
