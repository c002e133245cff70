"""Run a probe: compute features, train and test heads, and save the network with the best head as a checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from farfield.checkpoints.checkpoint import checkpoint_metadata, network_state_dict, write_checkpoint
from farfield.data.datamodule import VideoDataModule
from farfield.data.manifest import Manifest
from farfield.errors import FarfieldError
from farfield.evaluation.result import EvaluationResult
from farfield.models.network import ActionNet
from farfield.probing.checks import check_readable
from farfield.probing.curve import CurvePoint, learning_curve, videos_per_class
from farfield.probing.extraction import Extractor, weights_hash
from farfield.probing.feature_sets import FeatureMaker
from farfield.probing.grid import Grid
from farfield.probing.head_training import HeadTraining, Measure
from farfield.probing.heads import ProbeHead, check_heads, make_head, pooled_network
from farfield.probing.options import HeadName, ProbeSettings
from farfield.probing.result import HeadResult, ProbeResult, headline
from farfield.probing.scoring import as_scores, score_head
from farfield.probing.training_set import FeatureSet

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class _Sets:
    training: FeatureSet
    validation: FeatureSet
    test: FeatureSet | None
    test_manifest: Manifest | None


@dataclass(frozen=True)
class _TrainedHead:
    """A trained head.

    Attributes:
        head: the head with the weights of its best configuration.
        result: metrics of this configuration.
        rows: the head's rows in `ProbeResult.configurations`, one for each configuration.
    """

    head: ProbeHead
    result: HeadResult
    rows: list[dict[str, Any]]


def run_probe(
    network: ActionNet,
    data: VideoDataModule,
    settings: ProbeSettings,
    measure: Measure,
    *,
    test_manifest: Manifest | None,
    run_dir: Path,
    device: torch.device,
    forward_context: Callable[[], AbstractContextManager[Any]],
    precision: str,
) -> ProbeResult:
    """Train heads on a network's features, and choose the best head on the validation videos.

    The network and the best head are saved together, in one checkpoint. Every head is tested if there are test videos.

    Args:
        network: network whose features the heads are trained on. Its layers before the head stay frozen.
        data: training and validation videos.
        settings: options of the probe.
        measure: loss and metrics.
        test_manifest: test videos, from `farfield.probing.checks.check_probe`; None for no test.
        run_dir: run folder.
        device: device that the network and the heads run on.
        forward_context: function that returns a context manager for each forward pass of the network, such as autocast.
        precision: number format of the network, such as "bf16-mixed", see Lightning's Trainer.

    Raises:
        FarfieldError: if the network does not support an option, if all heads diverge, or if files cannot be read or
            written.
        KeyboardInterrupt: if interrupted. Features computed so far are kept.
    """
    base = pooled_network(network)
    heads = settings.head_names
    check_heads(base, heads)
    extractor = Extractor(
        base,
        device=device,
        forward_context=forward_context,
        with_maps=set(heads) != {"linear"},
        dtype=settings.dtype,
        pool=settings.pool,
    )
    began = time.monotonic()
    maker = FeatureMaker(
        data,
        extractor,
        folder=Path(settings.cache) if settings.cache else run_dir / "features",
        num_views=settings.train_views,
        precision=precision,
        weights=weights_hash(base),
    )
    sets = _make_sets(maker, data, test_manifest)
    computed = time.monotonic()
    make = _head_maker(base, sets.training, settings, data.seed)
    trained = {name: _train_head(make(name), sets, settings, measure, data) for name in heads}
    chosen = max(heads, key=lambda name: measure.rank(trained[name].result.figures))
    best = trained[chosen]
    if measure.rank(best.result.figures)[0] == -math.inf:
        raise FarfieldError(
            f"all heads have diverged with probe.learning_rates {list(settings.learning_rates)}. Lower them."
        )
    heads_done = time.monotonic()
    curve = _curve(make, best.result, sets, settings, measure, data) if settings.curve_draws else []
    drawn = time.monotonic()
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    _save(best.head, checkpoint, best.result, data)
    return ProbeResult(
        checkpoint=checkpoint,
        head=chosen,
        heads={name: each.result for name, each in trained.items()},
        configurations=[row for each in trained.values() for row in each.rows],
        monitor=measure.monitor,
        curve=curve,
        curve_on="validation" if sets.test is None else "test",
        num_videos={
            "training": len(sets.training),
            "validation": len(sets.validation),
            **({} if sets.test is None else {"test": len(sets.test)}),
        },
        failures=list(dict.fromkeys((each.path, each.reason) for each in maker.failures)),
        seconds={"features": computed - began, "heads": heads_done - computed, "curve": drawn - heads_done},
    )


def _make_sets(maker: FeatureMaker, data: VideoDataModule, test_manifest: Manifest | None) -> _Sets:
    assert data.val_manifest is not None
    central = {"num_clips": 1, "num_crops": 1}
    all_views = {"num_clips": data.clip.num_clips, "num_crops": data.clip.num_crops}
    training = maker.plan_training()
    validation = maker.plan_test("validation", data.val_manifest, **central)
    test = None if test_manifest is None else maker.plan_test("test", test_manifest, **all_views)
    maker.check_space([training, validation, *([] if test is None else [test])])
    made = (
        maker.make_training(training),
        maker.make_test(validation, **central),
        None if test is None else maker.make_test(test, **all_views),
    )
    for path, reason, *_ in dict.fromkeys(maker.failures):
        log.warning("left out: %s: %s", path, reason)
    check_readable(*made, labels=data.labels, task=data.task)
    return _Sets(*made, test_manifest)


def _head_maker(
    network: ActionNet, training: FeatureSet, settings: ProbeSettings, seed: int
) -> Callable[[HeadName], ProbeHead]:
    """Return a function that makes an untrained head of a given kind, on the device of the features.

    Args:
        network: network to put heads on, from `pooled_network`.
        training: features of the training videos.
        settings: options of the probe, including those of the heads.
        seed: seed of the heads' initial weights.
    """
    vectors = training.vectors[:, 0].cpu()
    shapes = [list(training.features.get(f"map{place}", [0]).shape[2:]) for place in range(training.num_maps)]

    def make(name: HeadName) -> ProbeHead:
        made = make_head(
            network, name, vectors=vectors, map_shapes=shapes, head_options=settings.head_options, seed=seed
        )
        return made.to(training.device)

    return make


def _train_head(
    head: ProbeHead, sets: _Sets, settings: ProbeSettings, measure: Measure, data: VideoDataModule
) -> _TrainedHead:
    """Train a head, choose its best configuration on the validation videos, and test it if there are test videos."""
    training = HeadTraining(head, sets.training, sets.validation, settings, measure, data)
    trained, best = training.best()
    result = HeadResult(trained.name, best, training.figures[best], _test(trained, sets, data))
    return _TrainedHead(trained, result, training.rows(best))


def _test(head: ProbeHead, sets: _Sets, data: VideoDataModule) -> EvaluationResult | None:
    if sets.test is None or sets.test_manifest is None:
        return None
    scores = as_scores(score_head(head, sets.test), sets.test, sets.test_manifest, head.network[0])
    groups = [sets.test_manifest[row].group for row in sets.test.manifest_rows]
    about = {"manifest": sets.test_manifest.source, "num_clips": data.clip.num_clips, "num_crops": data.clip.num_crops}
    return EvaluationResult(scores, [], about=about, groups=groups if any(groups) else None)


def _curve(
    make: Callable[[HeadName], ProbeHead],
    best: HeadResult,
    sets: _Sets,
    settings: ProbeSettings,
    measure: Measure,
    data: VideoDataModule,
) -> list[CurvePoint]:
    videos = sets.validation if sets.test is None else sets.test

    def evaluate(grid: Grid) -> list[float]:
        return [each[measure.curve_figure] for each in measure.of(grid, videos)]

    points = learning_curve(
        lambda: make(best.name), best.configuration, sets.training, evaluate, settings, measure.loss, seed=data.seed
    )
    last = best.figures[measure.curve_figure] if best.test is None else headline(best.test)[1].value
    largest = videos_per_class(sets.training.video_targets)[-1]
    return [*points, CurvePoint(largest, len(sets.training), [last])]


def _save(head: ProbeHead, path: Path, best: HeadResult, data: VideoDataModule) -> None:
    network = head.finish().cpu()
    about = {"head": best.name, **best.configuration._asdict(), "figures": dict(best.figures)}
    content = {**checkpoint_metadata(network), "probe": about, "data": data.provenance()}
    write_checkpoint({"farfield": content, "state_dict": network_state_dict(network)}, path)
