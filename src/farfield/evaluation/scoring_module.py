"""The LightningModule that scores test batches, on one device or several."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor

from farfield.distributed import all_gather_list
from farfield.layers.channels_last import to_channels_last_3d
from farfield.models.network import ActionNet
from farfield.scoring.aggregation import view_probabilities
from farfield.scoring.score_views import score_clips


class ScoringModule(LightningModule):
    """Score every view of the test videos.

    Args:
        network: the network to test.
        view_batch_size: views per forward pass; fewer need less memory. None for all views of a batch.

    Attributes:
        scores: (manifest rows, targets, probabilities of each view) of each batch. During a test, only of this
            process's batches; after the test, of the batches of all processes.
        failures: (path, reason) of each video that could not be read. Gathered from all processes after the test, like
            `scores`.
    """

    def __init__(self, network: ActionNet, *, view_batch_size: int | None = None) -> None:
        super().__init__()
        self.network = to_channels_last_3d(network)  # faster; clips come in the same format
        self.view_batch_size = view_batch_size
        self.scores: list[tuple[Tensor, Tensor, Tensor]] = []
        self.failures: list[tuple[str, str]] = []

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b classes"]:
        return self.network(clips)

    def on_test_epoch_start(self) -> None:
        self.scores, self.failures = [], []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.failures += [(each.path, each.reason) for each in batch.failures]
        if len(batch.labels) == 0:  # no video of the batch could be read
            return
        clips = batch.clips.split(self.view_batch_size or len(batch.clips))
        probabilities = view_probabilities(score_clips(self, clips).logits, len(batch.labels), self.network.task)
        self.scores.append((batch.indices.cpu(), batch.labels.cpu(), probabilities.cpu()))

    def on_test_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            self.scores, self.failures = all_gather_list(self.scores), all_gather_list(self.failures)
