from __future__ import annotations

import pytest
import torch
from torch import nn

from farfield import build_model
from farfield.layers import (
    BatchNorm3d,
    NonLocalBlock3d,
    SelfAttention,
    SubBatchNorm3d,
    diagnose,
    format_reports,
    not_zero_at_init,
    recalibrate,
)


def data(clips: int = 32) -> list[torch.Tensor]:
    return [torch.randn(clips, 4, 2, 3, 3) * 2 + 3 for _ in range(3)]


def test_drift_is_measured() -> None:
    norm = BatchNorm3d(4)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(16.0)
    batches = data()
    (report,) = diagnose(nn.Sequential(norm), batches)
    values = torch.cat(batches).transpose(0, 1).flatten(1).double()
    drift = (values.mean(1) - 1).abs() / (16 + norm.eps) ** 0.5
    assert report.mean_drift == pytest.approx(drift.median().item(), rel=1e-5)
    assert report.worst_mean_drift == pytest.approx(drift.max().item(), rel=1e-5)
    assert report.var_ratio == pytest.approx((values.var(1, correction=0) / 16).median().item(), rel=1e-4)
    assert (report.name, report.num_features) == ("0", 4)
    assert (report.clips_per_batch, report.values_per_channel) == (32, 32 * 18)
    assert any("recalibrate" in problem for problem in report.problems)


def test_recalibration_removes_drift() -> None:
    network = nn.Sequential(nn.Conv3d(4, 4, 1), BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 5, 1), BatchNorm3d(5))
    batches = data()
    assert all(report.problems for report in diagnose(network, batches)[:1])
    recalibrate(network, batches)
    assert [report.problems for report in diagnose(network, batches)] == [(), ()]


def test_finds_dead_and_exploding_channels() -> None:
    norm = BatchNorm3d(4)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(4.0)
    batches = data()
    for x in batches:
        x[:, 0] = 3.0
    with torch.no_grad():
        norm.weight[1] = 0
        norm.weight[2] = 500
    (report,) = diagnose(norm, batches)
    assert (report.dead, report.exploding) == (2, 1)
    assert report.problems == ("dead channels: 2", "exploding channels: 1")
    assert "dead channels: 2; exploding channels: 1" in format_reports([report])
    batches[0][0, 3] = torch.nan
    assert diagnose(norm, batches)[0].exploding == 2


def test_a_zero_gamma_is_not_dead() -> None:
    norm = BatchNorm3d(4, zero_init=True)
    recalibrate(norm, data())
    assert diagnose(norm, data())[0].problems == ()


def test_counts_the_clips_whose_statistics_are_taken_together() -> None:
    network = nn.Sequential(SubBatchNorm3d(4, 4))
    recalibrate(network, data())
    (report,) = diagnose(network, data())
    assert (report.name, report.clips_per_batch, report.values_per_channel) == ("0", 8, 8 * 18)
    assert report.problems == ("statistics are noisy in training (clips per batch: 8): freeze or synchronise",)


def test_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv3d(4, 4, 1), BatchNorm3d(4)).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    diagnose(network, data())
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    parts = SubBatchNorm3d(4, 2).train()
    parts(data()[0])
    (report,) = diagnose(parts, data())
    assert report.mean_drift > 0.1
    assert parts.bn.running_mean.eq(0).all()  # still as training left it
    with pytest.raises(ValueError, match="no batches to diagnose the norms on"):
        diagnose(network, [])


def test_not_zero_at_init_finds_nonzero_parameters() -> None:
    network = build_model("tiny", num_classes=3, insert={"res4": [0]})
    assert not_zero_at_init(network) == []
    name, norm = next((n, m) for n, m in network.named_modules() if getattr(m, "zero_init", False))
    nn.init.ones_(norm.weight)
    assert not_zero_at_init(network) == [f"{name}.weight"]
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(NonLocalBlock3d(4))
    assert not_zero_at_init(synchronised) == []
    nn.init.ones_(synchronised.norm.weight)
    assert not_zero_at_init(synchronised) == ["norm.weight"]
    plain = NonLocalBlock3d(4, norm=False)
    nn.init.ones_(plain.w_z.weight)
    assert not_zero_at_init(plain) == ["w_z.weight"]
    layers = nn.Sequential(NonLocalBlock3d(4), SelfAttention(4))
    nn.init.ones_(layers[1].gamma)
    assert not_zero_at_init(layers) == ["1.gamma"]
    assert not_zero_at_init(layers[1]) == ["gamma"]
