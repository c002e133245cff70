from __future__ import annotations

import pytest
import torch
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from torch import nn

from farfield.layers import NonLocalBlock3d, embedded_gaussian
from reference.non_local import embedded_gaussian_block


def awake(block: NonLocalBlock3d) -> NonLocalBlock3d:
    """Gives every parameter a value that matters; at birth the block is the identity."""
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.double()


@pytest.mark.parametrize("key_pool", [None, (1, 2, 2), (2, 1, 3)])
@pytest.mark.parametrize("scale", [True, False])
def test_agrees_with_the_equations_as_loops(key_pool: tuple[int, int, int] | None, scale: bool) -> None:
    block = awake(NonLocalBlock3d(5, inner_channels=3, key_pool=key_pool, scale=scale)).eval()
    x = torch.randn(2, 5, 2, 3, 7, dtype=torch.float64)
    loops = torch.stack([embedded_gaussian_block(clip, block, scale=3**-0.5 if scale else 1.0) for clip in x])
    torch.testing.assert_close(block(x), x + block.norm(loops), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("key_pool", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_agrees_with_pytorchvideo_in_values_and_gradients(key_pool: tuple[int, int, int], training: bool) -> None:
    ours = awake(NonLocalBlock3d(6, key_pool=key_pool)).train(training)
    theirs = create_nonlocal(dim_in=6, dim_inner=3, pool_size=key_pool).double().train(training)
    names = {"theta": "conv_theta", "phi": "conv_phi", "g": "conv_g", "w_z": "conv_out", "norm": "norm"}
    state = {names[key.split(".")[0]] + "." + key.split(".")[1]: value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 3, 5, 4, dtype=torch.float64)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours(x_ours), theirs(x_theirs)
    torch.testing.assert_close(y_ours, y_theirs, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(y_ours)
    (y_ours * cotangent).sum().backward()
    (y_theirs * cotangent).sum().backward()
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=1e-8, atol=1e-9)
    for name, parameter in ours.named_parameters():
        other = theirs.get_parameter(f"{names[name.split('.')[0]]}.{name.split('.')[1]}")
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-8, atol=1e-9, msg=name)


def test_is_exactly_the_identity_at_birth_in_training_and_evaluation() -> None:
    block = NonLocalBlock3d(8)
    x = torch.randn(3, 8, 2, 5, 4)
    assert torch.equal(block(x), x)
    assert torch.equal(block.eval()(x), x)


def test_sees_the_whole_clip() -> None:
    """A change at one corner of the clip reaches the opposite one."""
    block = awake(NonLocalBlock3d(4, key_pool=None)).eval()
    x = torch.randn(1, 4, 5, 3, 7, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 0, 0, 0] += 1
    assert (block(changed) - block(x))[0, :, -1, -1, -1].abs().max() > 1e-6


def test_does_not_care_in_which_order_positions_come() -> None:
    block = awake(NonLocalBlock3d(4, key_pool=None)).eval()
    x = torch.randn(1, 4, 3, 2, 5, dtype=torch.float64)
    order = torch.randperm(30)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    expected = block(x).flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(block(shuffled), expected, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_the_function() -> None:
    block = awake(NonLocalBlock3d(4, inner_channels=2, key_pool=(1, 2, 1))).eval()
    x = torch.randn(1, 4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))


def test_attention_runs_fused_without_the_n_by_n_matrix() -> None:
    rows = torch.randn(2, 37, 8)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        fused = embedded_gaussian(rows[:, None], rows[:, None], rows[:, None], scale=0.5)[:, 0]
    plain = (0.5 * rows @ rows.transpose(1, 2)).softmax(-1) @ rows
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_keeps_channels_last_memory() -> None:
    block = NonLocalBlock3d(8).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 8, 2, 6, 4).to(memory_format=torch.channels_last_3d)
    assert block(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_state_dict_keys_are_the_papers_symbols() -> None:
    keys = {key.split(".")[0] for key in NonLocalBlock3d(4).state_dict()}
    assert keys == {"theta", "phi", "g", "w_z", "norm"}


def test_an_input_smaller_than_the_pool_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input is \(2, 1, 5\).*smaller than its key_pool \(1, 2, 2\).*set key_pool"):
        NonLocalBlock3d(4)(torch.randn(1, 4, 2, 1, 5))


def test_a_block_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one channel; given 1, with 0 inside"):
        NonLocalBlock3d(1)
