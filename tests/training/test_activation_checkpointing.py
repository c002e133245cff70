"""Activation checkpointing saves memory; results equal the plain network's to the bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from farfield import build_model
from farfield.errors import FarfieldError
from farfield.layers import split_batch_norm
from farfield.models.network import ActionNet
from farfield.training.activation_checkpointing import checkpoint_activations, keep_running_statistics
from farfield.training.execution import Execution, apply_execution
from farfield.training.lightning_module import TrainingModule
from hugging_face import FAMILIES, config_entries

STAGES = ("res2", "res3", "res4")


def network(*, splits: int = 1) -> ActionNet:
    """With blocks that are awake, and dropout before the classifier and inside a stage."""
    made = build_model(
        "tiny",
        num_classes=3,
        insert={"res3": [1], "res4": [0, 1]},
        dropout=0.5,
        clip={"num_frames": 4, "crop_px": 24},
    )
    for parameter in made.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    block: Any = made.backbone.blocks("res4")[1]
    block.inserted = nn.Sequential(block.inserted, nn.Dropout(0.3))
    if splits > 1:
        split_batch_norm(made, splits)
    return made


def encoder(kind: str) -> ActionNet:
    """A network that has layers, with dropout or stochastic depth in them, and dropout before the classifier."""
    if kind == "swin3d_t":
        return build_model(kind, num_classes=3, dropout=0.5, clip={"num_frames": 4, "crop_px": 48})
    pytest.importorskip("transformers")
    rates = {"hidden_dropout_prob": 0.3} if kind != "vjepa2" else {"drop_path_rate": 0.3}
    return build_model("hf", num_classes=3, backbone_options={"config": config_entries(kind, **rates)}, dropout=0.5)


def train(model: nn.Module, *, steps: int = 2, side_px: int = 24) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Two steps with one seed: outputs and gradients of all, and the state after the last."""
    torch.manual_seed(7)
    seen: list[Tensor] = []
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        out = model(torch.randn(6, 3, 4, side_px, side_px) * 2 + 0.3)
        out.square().sum().backward()
        seen += [out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        optimizer.step()
        optimizer.zero_grad()
    return seen, model.state_dict()


def kept_bytes(model: nn.Module, *, side_px: int = 24) -> int:
    """Bytes of all that autograd keeps between the way forth and the way back, each storage once, weights left out."""
    weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(2, 3, 4, side_px, side_px))
    return sum(storage.nbytes() for place, storage in kept.items() if place not in weights)


@pytest.mark.slow
@pytest.mark.parametrize("splits", [1, 2])
def test_training_is_equal_to_the_bit(splits: int) -> None:
    plain = network(splits=splits)
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed, STAGES)
    expected, state = train(plain)
    seen, recomputed_state = train(recomputed)
    assert len(expected) == len(seen) > 50
    assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))
    assert list(state) == list(recomputed_state)
    assert [key for key in state if not torch.equal(state[key], recomputed_state[key])] == []
    counts = [int(value) for key, value in recomputed_state.items() if key.endswith("num_batches_tracked")]
    assert max(counts) == 2


@pytest.mark.parametrize("kind", [*FAMILIES, pytest.param("swin3d_t", marks=pytest.mark.slow)])
def test_layers_of_an_encoder_train_equally_to_the_bit_with_less_memory(kind: str) -> None:
    plain = encoder(kind)
    one, recomputed = copy.deepcopy(plain), copy.deepcopy(plain)
    checkpoint_activations(one, ["layer2"])
    checkpoint_activations(recomputed, ["layers", "layer1"])  # a layer that is named twice is repeated once
    assert [name for name, _ in recomputed.named_modules()] == [name for name, _ in plain.named_modules()]
    sizes = [kept_bytes(model, side_px=48) for model in (plain, one, recomputed)]
    assert sizes[0] > sizes[1] > sizes[2]
    expected, state = train(plain, side_px=48)
    for model in (one, recomputed):
        seen, its_state = train(model, side_px=48)
        assert len(expected) == len(seen) > 50
        assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))
        assert [key for key in state if not torch.equal(state[key], its_state[key])] == []


def test_names_and_evaluation_do_not_change() -> None:
    plain = network().eval()
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed, STAGES)
    assert [name for name, _ in recomputed.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in recomputed.named_modules()] == [name for name, _ in plain.named_modules()]
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 4, 24, 24)
    assert torch.equal(recomputed(x), plain(x))
    with torch.no_grad():
        assert torch.equal(recomputed.train()(x * 0 + 1).isfinite(), torch.ones(1, 3, dtype=torch.bool))


def test_deep_copy_is_checkpointed_and_independent() -> None:
    recomputed = network()
    checkpoint_activations(recomputed, ["res3"])
    copied = copy.deepcopy(recomputed)
    assert kept_bytes(copied) == kept_bytes(recomputed)
    before = {key: value.clone() for key, value in recomputed.state_dict().items()}
    train(copied, steps=1)
    assert all(torch.equal(value, before[key]) for key, value in recomputed.state_dict().items())
    assert not torch.equal(copied.head.fc.weight, recomputed.head.fc.weight)


def test_each_stage_saves_memory_for_the_backward_pass() -> None:
    plain = network()
    sizes = [kept_bytes(plain)]
    for end in range(1, len(STAGES) + 1):
        recomputed = copy.deepcopy(plain)
        checkpoint_activations(recomputed, STAGES[:end])
        sizes.append(kept_bytes(recomputed))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert sizes[-1] < sizes[0] / 2


def test_no_checkpointing_without_gradients() -> None:
    """Blocks that run under no_grad are no checkpoints: their norms move once, as ever."""
    plain = network()
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed, STAGES)
    x = torch.randn(2, 3, 4, 24, 24)
    with torch.no_grad():
        for model in (plain, recomputed):
            torch.manual_seed(3)
            model.train()(x)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), recomputed.buffers(), strict=True))


def test_norm_statistics_are_restored_after_an_error() -> None:
    norms = nn.Sequential(
        nn.BatchNorm3d(3, momentum=0.37),
        nn.BatchNorm3d(3, momentum=None),
        nn.BatchNorm3d(3, track_running_stats=False),
        nn.BatchNorm3d(3, momentum=0.2).eval(),
    )
    x = torch.randn(5, 3, 2, 3, 2) * 3 + 1
    norms(x)
    before = {key: value.clone() for key, value in norms.state_dict().items()}
    expected = copy.deepcopy(norms)(x)

    def error_within() -> None:
        with keep_running_statistics(norms):
            assert torch.equal(norms(x), expected)  # by the batch's statistics, as ever
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        error_within()
    assert [norm.momentum for norm in norms] == [0.37, None, 0.1, 0.2]
    assert [norm.training for norm in norms] == [True, True, True, False]
    assert list(norms.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in norms.state_dict().items())
    norms(x)
    assert int(norms[0].num_batches_tracked) == int(before["0.num_batches_tracked"]) + 1


def test_running_statistics_survive_non_finite_batches() -> None:
    norm = nn.BatchNorm3d(3)
    with keep_running_statistics(norm):
        norm(torch.full((5, 3, 2, 3, 2), torch.nan))
    assert norm.running_mean is not None
    assert norm.running_mean.isfinite().all()


@pytest.mark.slow
def test_incompatible_settings_are_refused() -> None:
    with pytest.raises(
        FarfieldError,
        match=r"recompute_stages has 'res33', which is not a stage of this network\. .*Did you mean 'res3'\?$",
    ):
        apply_execution(network(), Execution(recompute_stages=("res2", "res33")), has_region_loss=False)
    with torch.device("meta"):
        transformer = build_model("mvit_v2_s", num_classes=3)
    with pytest.raises(
        FarfieldError, match=r"has 'res2', which is not a stage of this network\. Known: layers, layer1, "
    ):
        checkpoint_activations(transformer, ["res2"])
    transformer.backbone.layer_paths = ()
    with pytest.raises(
        FarfieldError,
        match=r"has 'res2', which is not a stage of this network\. This network has no stages: remove the option\.$",
    ):
        checkpoint_activations(transformer, ["res2"])
    with pytest.raises(FarfieldError, match=r"has 'layer3', which is not a .* Known: layers, layer1, layer2\."):
        checkpoint_activations(encoder("videomae"), ["layer3"])
    supervised = build_model("tiny", num_classes=3, insert={"res3": [1]}, block="object_context")
    message = (
        r"^execution.compile skips the hooks .* Set optimisation.region_loss_weight to 0, or execution.*to false\.$"
    )
    with pytest.raises(FarfieldError, match=message):
        TrainingModule(supervised, execution=Execution(compile=True))
