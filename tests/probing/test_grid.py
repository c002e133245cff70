"""The grid of configurations against one configuration at a time, and its optimiser against torch's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.build import build_model
from farfield.models.network import ActionNet
from farfield.probing.grid import Grid
from farfield.probing.heads import ProbeHead, make_head, pooled_network
from farfield.probing.options import Configuration, HeadName

CONFIGURATIONS = [Configuration(1e-2, 0.0), Configuration(3e-3, 0.5), Configuration(1e-3, 0.1)]
STEPS = 7
MAP = (256, 4, 3, 3)
HEADS = ["linear", pytest.param("attentive", marks=pytest.mark.slow), "non_local"]


@pytest.fixture(scope="module")
def network() -> ActionNet:
    clip = {"num_frames": 4, "crop_px": 40}
    return pooled_network(build_model("tiny", num_classes=5, clip=clip).eval())


def head(network: ActionNet, name: HeadName) -> ProbeHead:
    vectors = torch.randn(30, 256, generator=torch.Generator().manual_seed(5)) * 3 + 1
    options = {"depth": 2, "num_heads": 4, "mlp_ratio": 0.5}
    return make_head(network, name, vectors=vectors, map_shapes=[MAP], head_options=options, seed=3)


def batches(name: HeadName, draws: int | None = None) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    rng = torch.Generator().manual_seed(7)
    lead = () if draws is None else (draws,)
    while True:
        labels = torch.randint(5, (*lead, 6), generator=rng)
        shape = (256,) if name == "linear" else MAP
        yield (torch.randn(*lead, 6, *shape, generator=rng).relu(),), labels


def trained(network: ActionNet, name: HeadName, configurations: list[Configuration]) -> Grid:
    grid = Grid(head(network, name), configurations, F.cross_entropy)
    grid.train(batches(name), STEPS, description="heads")
    return grid


@pytest.mark.parametrize("name", HEADS)
def test_configurations_do_not_influence_each_other(network: ActionNet, name: HeadName) -> None:
    together = trained(network, name, CONFIGURATIONS)
    alone = [trained(network, name, [each]) for each in CONFIGURATIONS]
    inputs, _ = next(batches(name))
    with torch.no_grad():
        one_by_one = torch.cat([each.scores(inputs) for each in alone])
        torch.testing.assert_close(together.scores(inputs), one_by_one, atol=1e-5, rtol=1e-5)
    assert (one_by_one[0] - one_by_one[1]).abs().max() > 1e-2  # they differ
    for key, value in {**together.parameters, **together.buffers}.items():
        own = torch.cat([{**each.parameters, **each.buffers}[key] for each in alone])
        torch.testing.assert_close(value, own, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.train_losses, torch.cat([each.train_losses for each in alone]))


@pytest.mark.parametrize("name", HEADS)
def test_optimiser_is_adamw_with_a_cosine(network: ActionNet, name: HeadName) -> None:
    """The oracle trains the module itself with torch's optimiser."""
    configuration = CONFIGURATIONS[1]
    grid = trained(network, name, [configuration])
    module = head(network, name)
    weights = [p for key, p in module.trainable().items() if p.ndim > 1 and not key.endswith("query")]
    others = [p for key, p in module.trainable().items() if not any(p is each for each in weights)]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": configuration.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=configuration.lr,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    module.train()
    for _, (inputs, labels) in zip(range(STEPS), batches(name), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(module(*inputs), labels).backward()
        optimizer.step()
        schedule.step()
    inputs, _ = next(batches(name))
    with torch.no_grad():
        torch.testing.assert_close(grid.scores(inputs)[0], module.eval()(*inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["linear", "non_local"])
def test_own_inputs_of_each_configuration(network: ActionNet, name: HeadName) -> None:
    grid = Grid(head(network, name), CONFIGURATIONS[:2], F.cross_entropy)
    grid.train(batches(name, 2), STEPS, own_inputs=True, description="heads")
    for place in range(2):
        single = Grid(head(network, name), [CONFIGURATIONS[place]], F.cross_entropy)
        own = (((inputs[0][place],), labels[place]) for inputs, labels in batches(name, 2))
        single.train(own, STEPS, description="heads")
        for key, value in grid.parameters.items():
            torch.testing.assert_close(value[place], single.parameters[key][0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["linear", "non_local"])
def test_configurations_that_go_on_are_trained_as_without_the_others(network: ActionNet, name: HeadName) -> None:
    grid = Grid(head(network, name), CONFIGURATIONS, F.cross_entropy)
    keep = {2: [0, 2], 4: [1]}
    grid.train(batches(name), STEPS, after_step=keep.get, description="heads")
    assert grid.configurations == [CONFIGURATIONS[2]]
    alone = trained(network, name, [CONFIGURATIONS[2]])
    for key, value in {**alone.parameters, **alone.buffers}.items():
        torch.testing.assert_close({**grid.parameters, **grid.buffers}[key], value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grid.train_losses, alone.train_losses)


@pytest.mark.parametrize("name", HEADS)
def test_finished_network_scores_as_its_head(network: ActionNet, name: HeadName) -> None:
    grid = trained(network, name, CONFIGURATIONS)
    clips = torch.randn(3, 3, 4, 40, 40)
    with torch.no_grad():
        maps = network.backbone(clips)
        inputs = (network.head.embed(maps)[:, 0],) if name == "linear" else (maps,)
        scores = grid.scores(inputs)[2]
        taken = grid.take(2)
        made = taken.finish()
        torch.testing.assert_close(made(clips), scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(taken(*inputs), scores, atol=1e-4, rtol=1e-4)
    assert scores.std() > 0.03


def test_first_weights_depend_on_the_seed_only(network: ActionNet) -> None:
    first = head(network, "attentive").state_dict()
    torch.manual_seed(99)
    assert all(torch.equal(value, first[key]) for key, value in head(network, "attentive").state_dict().items())


def test_a_channel_that_hardly_varies_gets_no_large_weight(network: ActionNet) -> None:
    """The first channel varies by a millionth of the others; its weight is at most ten times theirs."""
    rows = torch.tensor([-1.0, 1.0]).repeat(10)[:, None]  # mean 0, standard deviation 1
    vectors = rows.repeat(1, 256)
    vectors[:, 0] *= 1e-6
    made = make_head(network, "linear", vectors=vectors, map_shapes=[MAP], head_options=None, seed=0)
    torch.nn.init.ones_(made.head.fc.weight)
    weight = made.finish().head.fc.weight
    torch.testing.assert_close(weight[:, 1:], torch.ones(5, 255))
    torch.testing.assert_close(weight[:, 0], torch.full((5,), 256 / 25.5), rtol=1e-4, atol=0)
    constant = make_head(network, "linear", vectors=torch.ones(4, 256), map_shapes=[MAP], head_options=None, seed=0)
    scores = constant(torch.ones(1, 256))
    assert scores.isfinite().all()
