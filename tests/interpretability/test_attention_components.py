from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from farfield.interpretability.attention_components import (
    attention_after_all_passes,
    draw_component,
    missing_map_reason,
    object_regions,
)
from farfield.interpretability.attention_maps import attention_rows
from farfield.interpretability.block_activations import record_activations
from interpretability.test_attention_maps import CLIP, network


@torch.no_grad()
def line_matrix(block: Any, x: torch.Tensor) -> np.ndarray:
    """Compute the n x n matrix of one pass of criss-cross attention by loops in float64."""
    query, key = (conv(x)[0].double().numpy() for conv in (block.query, block.key))
    sizes = x.shape[2:]
    places = list(np.ndindex(*sizes))
    matrix = np.zeros((len(places), len(places)))
    for i, at in enumerate(places):
        on_lines = [j for j, to in enumerate(places) if sum(a == b for a, b in zip(at, to, strict=True)) >= 2]
        e = np.array([query[(slice(None), *at)] @ key[(slice(None), *places[j])] for j in on_lines])
        matrix[i, on_lines] = np.exp(e - e.max()) / np.exp(e - e.max()).sum()
    return matrix


def test_attention_after_all_passes_is_the_product_of_the_passes() -> None:
    made = network("criss_cross")
    activation = record_activations(made, torch.randn(CLIP))[1]  # 5 x 3 x 4 positions
    block: Any = activation.block
    with torch.no_grad():
        block.gamma.fill_(0.7)
        for conv in (block.query, block.key):
            conv.weight.mul_(0.03)
    (shown,) = attention_rows(activation, (0.3, 0.4, 0.9))  # (1, 1, 3)
    x, matrices = activation.x, []
    once = torch.nn.Module.__call__
    passes, block.passes = block.passes, 1
    for _ in range(passes):
        matrices.append(line_matrix(block, x))
        with torch.no_grad():
            x = once(block, x)
    block.passes = passes
    start = np.ravel_multi_index((1, 1, 3), (5, 3, 4))
    expected = (matrices[2] @ matrices[1] @ matrices[0])[start].reshape(5, 3, 4)
    found = attention_after_all_passes(activation, shown)
    assert found is not None
    np.testing.assert_allclose(found.weights.numpy(), expected, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(shown.weights.numpy(), matrices[2][start].reshape(5, 3, 4), rtol=2e-3, atol=1e-6)
    assert found.block == "res4[0], 3 passes"
    assert (found.keys, shown.keys) == (60, 5 + 3 + 4 - 2)
    bits = -(expected * np.log2(expected)).sum()
    assert bits > 1
    assert found.entropy == pytest.approx(bits, abs=1e-3)
    wrong_way = (matrices[0] @ matrices[1] @ matrices[2])[start].reshape(5, 3, 4)
    assert np.abs(wrong_way - expected).max() > 0.02
    assert not block.query._forward_pre_hooks
    block.passes = 2
    of_two = attention_after_all_passes(activation, shown)
    assert of_two is not None
    assert of_two.block == "res4[0], 2 passes"
    block.passes = 1
    assert attention_after_all_passes(activation, shown) is None


def test_regions_weighted_by_their_shares_sum_to_the_attention() -> None:
    made = network("object_context")  # three regions, one a class
    activation = record_activations(made, torch.randn(CLIP))[0]
    (shown,) = attention_rows(activation, (0.5, 0.5, 0.5))
    found = object_regions(activation, shown.query, made.labels)
    assert sum(each.share for each in found) == pytest.approx(1, abs=1e-5)
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)
    together = sum(each.share * each.weights for each in found)
    torch.testing.assert_close(together, shown.weights, rtol=1e-3, atol=1e-6)
    assert {each.name for each in found} == {"0", "1", "2"}
    assert object_regions(activation, shown.query, ["only", "two"])[0].name.startswith("region ")


@pytest.mark.parametrize(
    ("block", "start"),
    [
        ("coordinate_attention", "res3[1]: gates of coordinate attention"),
        ("dual_attention", "res3[1]: channel attention"),
        ("object_context", "res3[1]: soft object regions"),
        ("non_local", None),
        ("self_attention", None),
        ("criss_cross", None),
    ],
)
def test_each_block_draws_its_other_components(block: str, start: str | None) -> None:
    made = network(block)
    activation = record_activations(made, torch.randn(CLIP))[0]
    found = draw_component(activation, np.zeros((5, 40, 56, 3), np.uint8), (0.5, 0.5, 0.5), made.labels)
    assert (found is None) == (start is None)
    if found is not None and start is not None:
        assert found[0].startswith(start)
    if block == "coordinate_attention":
        assert found is not None
        curve = found[1].axes[1].get_lines()[0].get_ydata()
        gates: Any = activation.block.gates(activation.x)
        np.testing.assert_allclose(curve, gates[1][0].mean(0).detach().numpy(), rtol=1e-5)
        assert missing_map_reason(activation) == (
            "res3[1]: coordinate attention has gates along t, h and w, and no attention map."
        )
    else:
        assert missing_map_reason(activation) is None
