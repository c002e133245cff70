"""Classification head: pooling, dropout, one linear layer.

On clips of the training size, the first three kinds of head below give the same class probabilities (`farfield/task.py`
computes them from the head's scores). Many networks are tested on larger clips, where the probabilities differ. A
published result is valid only for the kind of head that it was measured with:

- `gap_fc`: average-pool all positions, then classify (torchvision's ResNets, MMAction2).
- `window_mean`: average-pool a sliding window of the training feature map's size (stride 1), classify each window, and
  average the logits (PyTorchVideo).
- `window_softmax_mean`: like `window_mean`, but average the windows' probabilities (PySlowFast, and the Caffe2 code of
  Wang et al., "Non-local Neural Networks", CVPR 2018).

A fourth kind, `attentive`, replaces the average by a learned query that attends to all positions (V-JEPA 2's pooler,
`farfield.layers.AttentivePool3d`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.errors import FarfieldError, nearest
from farfield.layers import AttentivePool3d, GlobalAvgPool3d
from farfield.models.head_kinds import HeadKind
from farfield.task import DEFAULT_TASK, Task


class Head(nn.Module):
    """Map features (b c t h w) to scores (b classes), which `class_probabilities` converts to probabilities.

    Args:
        channels: number of channels that the classifier takes: the sum over pathways, or the embedding's output.
        num_classes: number of classes.
        dropout: probability of setting a feature to zero before the classifier, in training.
        kind: how features are pooled: "gap_fc", "window_mean", "window_softmax_mean" or "attentive", see the top of
            this file. For clips of the training size, the first three give the same probabilities.
        windows: for "window_mean" and "window_softmax_mean", the pooling window (t h w) of each pathway in its feature
            map; None for "gap_fc" and "attentive".
        attention: for "attentive", the keyword arguments of `AttentivePool3d`.
        map_channels: for "attentive", the number of channels of each pathway's feature map.
        task: type of task, which decides how scores are converted to probabilities. In a "multi_head" task, the classes
            are divided into label groups, such as verbs and nouns. The scores are then log-probabilities: their
            exponentials sum to 1 over the classes of each group.
        head_sizes: for "multi_head", the number of classes of each label group; None for other tasks.
        embedding: module between pooling and classifier, (b c ...) -> (b c2 ...); None for no such module.

    Raises:
        FarfieldError: if the kind is unknown, or if `windows` or `attention` is invalid or does not fit the kind.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        dropout: float,
        kind: HeadKind = "gap_fc",
        windows: Sequence[Sequence[int]] | None = None,
        attention: Mapping[str, Any] | None = None,
        map_channels: Sequence[int] = (),
        task: Task = DEFAULT_TASK,
        head_sizes: Sequence[int] | None = None,
        embedding: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if kind not in get_args(HeadKind):
            raise FarfieldError(f"head is {kind!r}. {nearest(kind, get_args(HeadKind))}")
        if (windows is None) != (kind in ("gap_fc", "attentive")):
            raise FarfieldError(
                f"head is {kind!r} and head_windows is {windows}. Set head_windows for 'window_mean' and "
                "'window_softmax_mean', and leave it out for 'gap_fc' and 'attentive'."
            )
        if attention and kind != "attentive":
            raise FarfieldError(
                f"head_options is {dict(attention)}, but head is {kind!r}, which has no options. Leave head_options "
                "out, or set head to 'attentive'."
            )
        if windows and any(len(window) != 3 or min(window) < 1 for window in windows):
            raise FarfieldError(f"head_windows is {windows}; each pathway needs three lengths (t h w) of at least 1.")
        self.kind = kind
        self.task = task
        self.head_sizes = None if head_sizes is None else list(head_sizes)
        self.pool = GlobalAvgPool3d(keepdim=True)
        self.windows = (
            None if windows is None else nn.ModuleList(nn.AvgPool3d((w[0], w[1], w[2]), stride=1) for w in windows)
        )
        self.attentive_pools = (
            nn.ModuleList(_attentive_pool(each, attention or {}) for each in map_channels)
            if kind == "attentive"
            else None
        )
        self.embedding = embedding or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(
        self, features: Float[Tensor, "b c t h w"] | list[Float[Tensor, "b _ _ h w"]]
    ) -> Float[Tensor, "b classes"]:
        return self.classify(self.embed(features))

    def embed(self, features: Float[Tensor, "b c t h w"] | list[Float[Tensor, "b _ _ h w"]]) -> Float[Tensor, "b v c2"]:
        """Return the classifier's input for each clip: one vector, or one per window for heads with windows."""
        return self.embedding(self.pool_maps(features)).flatten(2).transpose(1, 2)

    def pool_maps(
        self, features: Float[Tensor, "b c t h w"] | list[Float[Tensor, "b _ _ h w"]]
    ) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Pool each pathway to one position (or to one position per window), and concatenate the pathways' channels."""
        maps = features if isinstance(features, list) else [features]
        if self.attentive_pools is not None:
            pooled = [pool(each)[..., None, None, None] for each, pool in zip(maps, self.attentive_pools, strict=True)]
        elif self.windows is not None:
            pooled = [self._windowed(each, pool) for each, pool in zip(maps, self.windows, strict=True)]
        else:
            pooled = [self.pool(each) for each in maps]
        return torch.cat(pooled, 1)

    def classify(self, vectors: Float[Tensor, "b v c2"]) -> Float[Tensor, "b classes"]:
        """Compute the scores of each clip from the vectors that `embed` returns."""
        logits = self.fc(self.dropout(vectors))
        if logits.shape[1] == 1:
            return self.normalise_heads(logits[:, 0])
        if self.kind == "window_mean":
            return self.normalise_heads(logits.mean(1))
        if self.task == "multilabel":
            # log(p / (1 - p)) of the averaged probabilities p. -softplus(-y) is log(sigmoid(y)). In ONNX, logsigmoid(y)
            # becomes these two steps, which give -inf where the sigmoid is too small for float32.
            return (-F.softplus(-logits)).logsumexp(1) - (-F.softplus(logits)).logsumexp(1)
        # The log of the averaged probabilities. Its softmax is the average.
        log_p = logits.log_softmax(-1) if self.head_sizes is None else self.normalise_heads(logits)
        return log_p.logsumexp(1) - math.log(logits.shape[1])

    def normalise_heads(self, logits: Float[Tensor, "*b classes"]) -> Float[Tensor, "*b classes"]:
        """For a multi_head task, apply the log-softmax over each label group, such as verbs; else return the logits."""
        if self.head_sizes is None:
            return logits
        return torch.cat([each.log_softmax(-1) for each in logits.split(self.head_sizes, -1)], -1)

    def _windowed(self, features: Float[Tensor, "b c t h w"], pool: nn.Module) -> Float[Tensor, "b c t2 h2 w2"]:
        window: Any = pool.kernel_size
        if any(size < side for size, side in zip(features.shape[2:], window, strict=True)):
            raise ValueError(
                f"the head's window {window} is larger than the feature map {tuple(features.shape[2:])}: the "
                "clip is smaller than in training. Give larger clips, or build the network with head='gap_fc'."
            )
        return pool(features)


def _attentive_pool(channels: int, options: Mapping[str, Any]) -> AttentivePool3d:
    """Create the attentive pooling of one pathway.

    Raises:
        FarfieldError: for an option that does not exist or has an invalid value.
    """
    parameters = inspect.signature(AttentivePool3d).parameters
    defaults = {name: each.default for name, each in parameters.items() if name != "channels"}
    for name, value in options.items():
        if name not in defaults:
            raise FarfieldError(f"head_options has {name!r}, which does not exist. {nearest(name, defaults)}")
        is_whole = isinstance(defaults[name], int)
        if not isinstance(value, int if is_whole else int | float) or isinstance(value, bool):
            needed = "a whole number" if is_whole else "a number"
            raise FarfieldError(f"head_options has {name}: {value!r}; it must be {needed}.")
    try:
        return AttentivePool3d(channels, **options)
    except ValueError as error:
        raise FarfieldError(f"head 'attentive' does not take the head_options {dict(options)}: {error}.") from error
