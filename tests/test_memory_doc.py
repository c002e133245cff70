"""The example of docs/explanations/memory.md, and the options that the page names."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from farfield import build_model
from farfield.layers import recompute_activations
from farfield.training.execution import Execution

PAGE = (Path(__file__).parents[1] / "docs/explanations/memory.md").read_text()


def test_the_example_gives_the_gradients_of_a_normal_step() -> None:
    torch.manual_seed(0)
    network = build_model("tiny", num_classes=3, backbone_options={}).double().train()
    network.head.dropout = torch.nn.Identity()  # random masks would differ
    clips, labels = torch.randn(2, 3, 4, 24, 24, dtype=torch.float64), torch.tensor([0, 2])
    used = []

    def spy(**options: int) -> object:
        used.append(options)
        return recompute_activations(**options)

    gradients = []
    for code in (
        "loss = cross_entropy(network(clips), labels)\nloss.backward()",
        *re.findall(r"```python\n.*?(with recompute.*?)```", PAGE, re.S),  # with the network and clips of this test
    ):
        network.zero_grad()
        exec(
            code,
            {
                "recompute_activations": spy,
                "cross_entropy": cross_entropy,
                "network": network,
                "clips": clips,
                "labels": labels,
            },
        )
        gradients.append([each.grad.clone() for each in network.parameters() if each.grad is not None])
    assert used == [{"sums_per_kept": 2}]
    assert len(gradients) == 2
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)


def test_the_named_options_exist() -> None:
    named = re.findall(r"--model\.execution\.(\w+)", PAGE)
    assert named
    assert set(named) <= set(vars(Execution()))
