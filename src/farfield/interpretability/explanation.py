"""Explanation of a prediction for one video: attention, Grad-CAM, class evidence and window contributions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.interpretability.attention_components import attention_after_all_passes, missing_map_reason
from farfield.interpretability.attention_maps import AttentionMap, Position, attention_rows, most_effective
from farfield.interpretability.attention_spread import (
    UNIFORM_SHARE,
    Spread,
    ascending_times,
    is_uniform,
    mean_spread,
    measure_spread,
    uniform_attention,
)
from farfield.interpretability.block_activations import BlockActivation, record_activations
from farfield.interpretability.class_evidence import Evidence, class_evidence
from farfield.interpretability.grad_cam import GradCam, default_stages, grad_cam, label_index, token_layers
from farfield.interpretability.strongest_connections import Connection, strongest_connections
from farfield.interpretability.view_selection import ScoredViews, choose_view, nearest_frame, score_video_views
from farfield.models.network import ActionNet
from farfield.models.operating_point import class_thresholds
from farfield.task import DEFAULT_TASK, Task
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class BlockExplanation:
    """Attention of one block: the map of the chosen position, and averages over positions of the clip.

    Attributes:
        shown: attention map of the chosen position. For a block with several passes, it is the map of the last pass.
        after_passes: attention map of the chosen position after all passes, for criss-cross attention with several
            passes; None otherwise.
        connections: strongest connections of the chosen position, from `shown`.
        query: spread of the attention of the chosen position, from `shown`: entropy, and mean distances in time and
            space.
        mean: spread of the attention, averaged over the positions of a grid that covers the clip.
        uniform: for comparison, the value that `mean` would have if each position attended equally to all keys that it
            can attend to.
    """

    shown: AttentionMap
    after_passes: AttentionMap | None
    connections: list[Connection]
    query: Spread
    mean: Spread
    uniform: Spread


@dataclass(frozen=True)
class Explanation:
    """Explanation of a network's prediction for one video.

    Attributes:
        path: the video file or folder of pictures.
        labels: class names.
        views: the video's views and their scores.
        explained: index of the explained view.
        predicted: class whose probability, aggregated over all views, is the highest.
        label: explained class.
        seconds: time of each frame of the explained view, ascending.
        activations: for each inserted block, its recorded input, and its effect on the score of `label`.
        blocks: attention of each block that has attention maps over positions.
        cams: Grad-CAM maps: one of the requested stage or, if no stage was requested, one of each stage in
            `default_stages`.
        evidence: class evidence over time, or a one-line reason why there is none.
        notes: one line for each part of the explanation that is missing or unusual.
        thresholds: threshold of each class of a multilabel network; None for other tasks.
        task: task of the network.
    """

    path: str
    labels: list[str]
    views: ScoredViews
    explained: int
    predicted: str
    label: str
    seconds: Float[np.ndarray, " t"]
    activations: list[BlockActivation]
    blocks: list[BlockExplanation]
    cams: list[GradCam]
    evidence: Evidence | str
    notes: list[str]
    thresholds: list[float] | None = None
    task: Task = DEFAULT_TASK

    @property
    def windows_label(self) -> str:
        """Class for which the contributions of windows are computed.

        For a single-label network, this is the predicted class. For other networks, which may predict several classes,
        it is the explained class.
        """
        return self.predicted if self.task == "single_label" else self.label

    @property
    def frames(self) -> UInt8[np.ndarray, "t h w c"]:
        """Frames of the explained view."""
        return self.views.frames[self.explained].numpy()

    @property
    def maps(self) -> list[AttentionMap]:
        """Attention maps of all blocks, in the network's order: of each block `shown`, then any `after_passes`."""
        return [m for block in self.blocks for m in (block.shown, block.after_passes) if m is not None]

    @property
    def query(self) -> tuple[float, float, float]:
        """Position (t, h, w) whose attention the last block's map shows, each in [0, 1).

        It is the clip's middle if no block has attention maps.
        """
        return self.blocks[-1].shown.query if self.blocks else (0.5, 0.5, 0.5)

    def ranking(self, top_k: int) -> list[tuple[str, float]]:
        """Return the `top_k` most probable classes of the video with their probabilities, best first.

        For a multilabel network, all other classes that reach their thresholds follow.
        """
        of_video = self.views.video
        order = np.argsort(-of_video, kind="stable")
        reached = order[:0] if self.thresholds is None else order[top_k:][(of_video >= self.thresholds)[order[top_k:]]]
        return [(self.labels[i], float(of_video[i])) for i in (*order[:top_k], *reached)]


def explain_video(
    path: str | Path,
    network: ActionNet,
    *,
    time: float | None = None,
    point: tuple[float, float] | None = None,
    label: str | None = None,
    stage: str | None = None,
    connections: int = 20,
    num_clips: int | None = None,
    num_crops: int | None = None,
    decoder: Decoder = "pyav",
    fps: float | None = None,
) -> Explanation:
    """Explain a network's prediction for one view of a video.

    The explained view is the one with the highest probability of the explained class. If `time` is given, only views
    that contain this time are compared. If several views contain it, only those whose nearest frame is closest to it
    are compared.

    Args:
        path: a video file, or a folder of numbered pictures.
        network: network on the device to run on. It is set to evaluation mode.
        time: time of the position whose attention is shown, in seconds from the start of the video; None chooses it for
            each block (see `most_effective`).
        point: (y, x) of the position, in pixels of the network's input; None chooses it for each block.
        label: class to explain; None for the most probable class, whether or not it reaches its threshold.
        stage: stage for Grad-CAM; None for the last stage of each pathway (see `default_stages` for networks without
            stages, or with blocks after the last stage).
        connections: maximum number of connections to keep for each block, the strongest first.
        num_clips: number of clips spread over the video; None for the network's test setting.
        num_crops: number of crops of each clip; None for the network's test setting.
        decoder: see `open_video`.
        fps: frame rate of a folder of pictures, see `open_video`.

    Raises:
        VideoError: if the file cannot be decoded, or is shorter than a clip and the network does not loop it.
        FarfieldError: for an unknown class or stage, a time that no view contains, a point outside of the network's
            input, or connections, num_clips or num_crops below 1.
    """
    network.eval()
    side = network.clip.test_side_px
    _check_request(network, point=point, label=label, stage=stage, connections=connections)
    views = score_video_views(path, network, num_clips=num_clips, num_crops=num_crops, decoder=decoder, fps=fps)
    predicted = network.labels[int(views.video.argmax())]
    label = predicted if label is None else label
    explained = choose_view(views, network.labels.index(label), time)
    raw = views.seconds[explained]
    seconds = ascending_times(raw)
    device = next(network.parameters()).device
    clip = network_input(views.frames[explained][None, None].to(device), network.clip).to(network.dtype)
    activations = record_activations(network, clip, class_index=network.labels.index(label))
    t = None if time is None else (nearest_frame(raw, time) + 0.5) / len(raw)
    position: Position = (t, *((None, None) if point is None else ((point[0] + 0.5) / side, (point[1] + 0.5) / side)))
    explanation = Explanation(
        path=str(path),
        labels=network.labels,
        views=views,
        explained=explained,
        predicted=predicted,
        label=label,
        seconds=seconds,
        activations=activations,
        blocks=[
            _explain_block(each, position, seconds, (side, side), connections)
            for each in activations
            if missing_map_reason(each) is None
        ],
        cams=[
            grad_cam(network, clip, label=label, stage=each)
            for each in (default_stages(network) if stage is None else [stage])
        ],
        evidence=class_evidence(network, clip),
        notes=[],
        thresholds=_thresholds(network),
        task=network.task,
    )
    return replace(explanation, notes=_notes(explanation))


def _thresholds(network: ActionNet) -> list[float] | None:
    """Return the threshold of each class of a multilabel network; None for other networks."""
    if network.task != "multilabel":
        return None
    found = class_thresholds(network.labels, network.operating_point, network.task)
    return [threshold for threshold in found if threshold is not None]  # every class has one


def _check_request(
    network: ActionNet, *, point: tuple[float, float] | None, label: str | None, stage: str | None, connections: int
) -> None:
    """Check the arguments that can be checked before the video is opened.

    Raises:
        FarfieldError: for a point outside of the network's input, an unknown class or stage, or connections below 1.
    """
    side = network.clip.test_side_px
    if point is not None and not all(0 <= at < side for at in point):
        raise FarfieldError(
            f"point is {point[0]:g},{point[1]:g}; the network's input is {side} x {side} px. Give y,x in pixels of the "
            f"input, each at least 0 and below {side}."
        )
    if connections < 1:
        raise FarfieldError(f"connections is {connections}; it must be at least 1. The non-local paper shows 20.")
    if label is not None:
        label_index(network, label)
    if stage is not None and stage not in [*default_stages(network), *token_layers(network)]:
        network.backbone.stage(stage)


def _notes(explanation: Explanation) -> list[str]:
    """Return one line for each missing part of the explanation, and for each fact needed to interpret it."""
    notes = []
    if explanation.thresholds is not None:
        notes.append("a video may have several of the classes or none: each class has a probability of its own.")
        if (explanation.views.video < np.array(explanation.thresholds)).all():
            notes.append("no class reaches its threshold in this video.")
    if explanation.task == "multi_head":
        notes.append(
            "this network has several heads: probabilities sum to 1 over the classes of each head. One class of one "
            "head is explained; --label chooses another."
        )
    if np.diff(explanation.views.seconds[explanation.explained]).min(initial=0) < 0:
        notes.append(
            "the video is shorter than a clip, so it was looped; repeated frames have times past the video's end."
        )
    if not explanation.activations:
        notes.append("this network has no inserted blocks, so there is no attention to show.")
    notes += [reason for each in explanation.activations if (reason := missing_map_reason(each))]
    notes += [
        f"{each.name} returns its input unchanged, as at initialisation: its attention has no effect."
        for each in explanation.activations
        if each.is_identity
    ]
    notes += [
        f"{each.block}: the attention is uniform (entropy above {UNIFORM_SHARE:.1%} of the largest), so no arrows are "
        "drawn."
        for each in explanation.maps
        if is_uniform(each)
    ]
    if any(block.shown.signs is not None for block in explanation.blocks):
        notes.append(
            "attention weights can be negative: maps show absolute values, and arrows of negative weights are dashed."
        )
    if not explanation.cams:
        notes.append("no Grad-CAM: the network has no features over time and space before its classifier.")
    if len(explanation.cams) == 2:
        notes.append("Grad-CAM is computed separately for the features of each of the two pathways.")
    notes += [
        f"Grad-CAM of {cam.stage} is 0 everywhere: no features of this stage support {cam.label}."
        for cam in explanation.cams
        if cam.empty
    ]
    if isinstance(explanation.evidence, str):
        notes.append(explanation.evidence)
    return notes


def _explain_block(
    activation: BlockActivation, position: Position, seconds: np.ndarray, size_px: tuple[int, int], count: int
) -> BlockExplanation:
    grid = attention_rows(activation)
    shown = most_effective(activation, position)
    return BlockExplanation(
        shown,
        attention_after_all_passes(activation, shown),
        strongest_connections(shown, count),
        measure_spread(shown, seconds, size_px),
        mean_spread([measure_spread(each, seconds, size_px) for each in grid]),
        mean_spread([measure_spread(uniform_attention(each), seconds, size_px) for each in grid]),
    )
