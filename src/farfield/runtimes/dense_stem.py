"""Replace the first convolution of an OpenVINO graph by a space-to-depth convolution, for CPUs with matrix units.

See `farfield.layers.dense_conv` for the arithmetic. Exported files hold the original convolution, which is faster on
CPUs without matrix units. Only the loaded graph is changed, not the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from farfield.layers.dense_conv import axis_padding, dense_weight, pays_off


def make_stem_dense(model: Any) -> None:
    """Replace strided 3D convolutions of few channels in an OpenVINO graph by space-to-depth convolutions, in place.

    A convolution is replaced only if all of these hold:

    - It has at most 4 input channels, and a stride above 1 along h or w. Only such convolutions become faster, on a CPU
      with matrix units.
    - It has no dilation.
    - Its padding is given explicitly, and is equal at the two ends of each axis.
    - Its weights are a constant of the graph. Quantised weights, which the graph computes from a constant, are not.
    - The height and width of its input are known.
    """
    from openvino.utils import replace_node

    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution" and _is_stem(node):
            dense = _dense(node)
            dense.set_friendly_name(node.get_friendly_name())
            replace_node(node, dense)


def _is_stem(node: Any) -> bool:
    """Return whether a node is a 3D convolution that would run faster as a space-to-depth convolution."""
    clips, weight = (node.input_value(i) for i in range(2))
    about = node.get_attributes()
    if weight.get_node().get_type_name() != "Constant" or len(weight.shape) != 5:
        return False
    known = all(size.is_static for size in list(clips.get_partial_shape())[3:])
    plain = set(about["dilations"]) == {1} and list(about["pads_begin"]) == list(about["pads_end"])
    return known and plain and about["auto_pad"] == "explicit" and pays_off(weight.shape[1], about["strides"])


def _dense(node: Any) -> Any:
    """Return operators that compute the convolution `node` like `DenseConv3d.forward`, but in channels-first layout."""
    from openvino import opset13 as op

    clips = node.input_value(0)
    weight = torch.from_numpy(node.input_value(1).get_node().get_data().astype(np.float32))
    about = node.get_attributes()
    kernel, stride, padding = weight.shape[2:], list(about["strides"]), list(about["pads_begin"])
    _, c, _, *size = (each.get_length() if each.is_static else -1 for each in clips.get_partial_shape())
    axes = [axis_padding(*axis) for axis in zip(size, kernel[1:], stride[1:], padding[1:], strict=True)]
    before, after = zip((0, 0), (0, 0), (padding[0], padding[0]), *axes, strict=True)
    padded = op.pad(clips, _numbers(before), _numbers(after), "constant", op.constant(np.float32(0)))
    blocks = [(sum(pads) + n) // s for pads, n, s in zip(axes, size, stride[1:], strict=True)]
    _, sh, sw = stride
    # b c t h/s sh w/s sw -> b sh sw c t h/s w/s -> b (sh sw c) t h/s w/s; a 0 in the new shape keeps the size.
    split = op.reshape(padded, _numbers([0, 0, 0, blocks[0], sh, blocks[1], sw]), special_zero=True)
    deep = op.transpose(split, _numbers([0, 4, 6, 1, 2, 3, 5]))
    deep = op.reshape(deep, _numbers([0, sh * sw * c, -1, *blocks]), special_zero=True)
    taps = [_frames_from(deep, k, kernel[0], stride[0]) for k in range(kernel[0])]
    dense = op.constant(dense_weight(weight, stride, padding).contiguous().numpy())
    return op.convolution(op.concat(taps, axis=1), dense, [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1])


def _frames_from(clips: Any, first: int, kernel: int, stride: int) -> Any:
    """Return the input frames that a convolution multiplies by one time step of its kernel.

    There is one input frame for each output frame.

    Args:
        clips: padded input of the convolution (b c t h w).
        first: index of the time step in the kernel. The first returned frame has the same index in `clips`.
        kernel: number of time steps of the kernel.
        stride: temporal stride of the convolution.
    """
    from openvino import opset13 as op

    beyond = first - kernel + 1 or np.iinfo(np.int64).max  # counted from the end
    return op.slice(clips, *(_numbers([number]) for number in (first, beyond, stride, 2)))


def _numbers(values: Any) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, dtype=np.int64))
