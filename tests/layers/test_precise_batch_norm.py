from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from farfield.layers import BatchNorm3d, FrozenBatchNorm3d, SubBatchNorm3d, recalibrate


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(2, 3, 1),
        BatchNorm3d(3, momentum=0.37),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv3d(3, 4, 1),
        BatchNorm3d(4),
    )


def batches() -> list[torch.Tensor]:
    """Of different sizes, and of different means."""
    return [torch.randn(n, 2, 2, 3, 5) + n for n in (2, 5, 3)]


def test_are_the_mean_and_unbiased_variance_of_all_values() -> None:
    model = network().eval()
    data = batches()
    assert recalibrate(model, data) == 3
    values = torch.cat([model[0](x).transpose(0, 1).flatten(1) for x in data], 1).double()
    torch.testing.assert_close(model[1].running_mean.double(), values.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model[1].running_var.double(), values.var(1), rtol=1e-6, atol=1e-6)

    def second_input(x: torch.Tensor) -> torch.Tensor:
        """With the first norm's output by the batch's own statistics."""
        y = model[0](x)
        y = torch.nn.functional.batch_norm(y, None, None, model[1].weight, model[1].bias, training=True)
        return model[4](y.relu())

    values = torch.cat([second_input(x).transpose(0, 1).flatten(1) for x in data], 1).double()
    torch.testing.assert_close(model[5].running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model[5].running_var.double(), values.var(1), rtol=1e-5, atol=1e-6)


def test_in_float64_too_where_nothing_is_converted() -> None:
    model, data = nn.Sequential(BatchNorm3d(2)).double(), [x.double() for x in batches()]
    recalibrate(model, data)
    values = torch.cat([x.transpose(0, 1).flatten(1) for x in data], 1)
    torch.testing.assert_close(model[0].running_mean, values.mean(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model[0].running_var, values.var(1), rtol=1e-12, atol=1e-12)


def test_other_modules_and_modes_are_unchanged() -> None:
    model = network().train()
    model[5].eval()
    frozen = nn.Sequential(model, FrozenBatchNorm3d(4))
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    recalibrate(frozen, batches())
    changed = {k for k, v in frozen.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"0.{n}.running_{s}" for n in (1, 5) for s in ("mean", "var")}
    assert model[1].momentum == 0.37
    assert [m.training for m in model] == [True] * 5 + [False]


def test_failure_restores_the_statistics() -> None:
    def failing() -> Iterator[torch.Tensor]:
        yield from batches()
        raise RuntimeError("the disk is gone")

    model = network()
    model(batches()[0])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for data, message in ((failing(), "the disk is gone"), ([], "no batches to compute statistics on")):
        with pytest.raises((RuntimeError, ValueError), match=message):
            recalibrate(model, data)
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        assert model[1].momentum == 0.37
        assert model.training


def test_a_norm_used_twice_is_measured_over_both() -> None:
    norm = BatchNorm3d(2)
    twice = nn.Sequential(norm, nn.Conv3d(2, 2, 1), norm)
    x = torch.randn(3, 2, 2, 2, 2)
    recalibrate(twice, [x])
    again = twice[1](torch.nn.functional.batch_norm(x, None, None, training=True))
    values = torch.cat([x, again]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, values.var(1), rtol=1e-4, atol=1e-5)


def test_a_norm_in_parts_gets_those_of_its_parts() -> None:
    norm = SubBatchNorm3d(2, 2).eval()
    data = [torch.randn(4, 2, 2, 3, 3), torch.randn(6, 2, 2, 3, 3) + 1]
    recalibrate(norm, data)
    for part in range(2):
        values = torch.cat([x[part::2] for x in data]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.split_bn.running_mean.view(2, 2)[part], values.mean(1))
        torch.testing.assert_close(norm.split_bn.running_var.view(2, 2)[part], values.var(1))
    aggregated = norm.bn.running_mean.clone()
    norm.aggregate()
    assert torch.equal(norm.bn.running_mean, aggregated)
    assert not norm.training


def test_custom_forward_is_used() -> None:
    model, data = network(), batches()
    other = copy.deepcopy(model)
    recalibrate(model, [{"clips": x} for x in data], forward=lambda m, batch: m(batch["clips"]))
    recalibrate(other, data)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_empty_input_and_networks_without_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="batches is a tensor, which would be split"):
        recalibrate(network(), batches()[0])
    with pytest.raises(ValueError, match="no batch norm with running statistics"):
        recalibrate(nn.Conv3d(2, 2, 1), batches())


def test_non_finite_statistics_are_replaced() -> None:
    model = network()
    model[1].running_mean.fill_(torch.nan)
    model[1].running_var.fill_(torch.inf)
    recalibrate(model, batches())
    assert all(v.isfinite().all() for v in model.state_dict().values())
