"""Translate other projects' weight names to plain names.

A plain name does not depend on how a project numbers its stages: `stem.conv.weight`, `res3.1.branch2.conv_a.weight`,
`fast_res3.1...` for SlowFast's fast pathway, `res3.1.inserted.theta.weight` for a non-local block, `fuse2.norm.weight`
for the fusion of the fast into the slow pathway, `head.fc.weight`. Inside a residual block the names are
PyTorchVideo's.
"""

from __future__ import annotations

import re

from farfield.models.network_weight_names import PATHWAYS


def from_pyslowfast(name: str) -> str | None:
    """Translate a weight name of PySlowFast's ResNets, SlowFast or X3D to a plain name; None for an unknown name."""
    if match := re.fullmatch(r"s1\.pathway([01])_stem\.(conv|conv_xy|bn)\.(\w+)", name):
        return f"{PATHWAYS[int(match[1])]}stem.{'norm' if match[2] == 'bn' else match[2]}.{match[3]}"
    if match := re.fullmatch(r"s([2-5])\.pathway([01])_res([0-9]{1,3})\.(.+)", name):
        rest = _pyslowfast_residual(match[4])
        return rest and f"{PATHWAYS[int(match[2])]}res{match[1]}.{match[3]}.{rest}"
    if match := re.fullmatch(
        r"s([2-5])\.pathway([01])_nonlocal([0-9]{1,3})\.(conv_theta|conv_phi|conv_g|conv_out|bn)\.(\w+)", name
    ):
        part = {"conv_out": "w_z", "bn": "norm"}.get(match[4], match[4].removeprefix("conv_"))
        return f"{PATHWAYS[int(match[2])]}res{match[1]}.{match[3]}.inserted.{part}.{match[5]}"
    if match := re.fullmatch(r"s([1-4])_fuse\.(conv_f2s|bn)\.(\w+)", name):
        return f"fuse{match[1]}.{'conv_fast_to_slow' if match[2] == 'conv_f2s' else 'norm'}.{match[3]}"
    if match := re.fullmatch(r"head\.(projection|conv_5|conv_5_bn|lin_5)\.(\w+)", name):
        part = {"projection": "fc", "conv_5": "pre_conv", "conv_5_bn": "pre_norm", "lin_5": "post_conv"}[match[1]]
        return f"head.{part}.{match[2]}"
    return None


def _pyslowfast_residual(rest: str) -> str | None:
    if match := re.fullmatch(r"branch1(_bn)?\.(\w+)", rest):
        return f"branch1_{'norm' if match[1] else 'conv'}.{match[2]}"
    if match := re.fullmatch(r"branch2\.([abc])(_bn)?\.(\w+)", rest):
        return f"branch2.{'norm' if match[2] else 'conv'}_{match[1]}.{match[3]}"
    if match := re.fullmatch(r"branch2\.se\.fc([12])\.(\w+)", rest):
        return f"branch2.norm_b.1.block.{0 if match[1] == '1' else 2}.{match[2]}"
    return None


def x3d_from_pyslowfast(name: str) -> str | None:
    """Translate a weight name of PySlowFast's X3D to a plain name; None for an unknown name.

    Most weights get the names that `from_pyslowfast` returns. Two kinds get PyTorchVideo's names instead: the stem
    convolutions, and the norms that PyTorchVideo keeps in one module with squeeze-and-excitation.
    """
    plain = from_pyslowfast(name)
    if plain is None:
        return None
    # PyTorchVideo's conv_t is the spatial kernel, conv_xy the temporal one.
    plain = re.sub(
        r"^stem\.(conv|conv_xy)\.", lambda m: f"stem.conv.{'conv_t' if m[1] == 'conv_xy' else 'conv_xy'}.", plain
    )
    return re.sub(r"branch2\.norm_b\.(?!1\.block)", "branch2.norm_b.0.", plain)


_CAFFE2_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_CAFFE2_CONV = {"w": "weight", "b": "bias"}


def from_caffe2(name: str) -> str | None:
    """Translate a Caffe2 blob name to a plain name; None for an unknown name.

    The blobs are those of PySlowFast's Caffe2 models and of video-nonlocal-net, the code of Wang et al., "Non-local
    Neural Networks", CVPR 2018.
    """
    pathway = "fast_" if name.startswith("t_") else ""
    rest = name.removeprefix("t_")
    if match := re.fullmatch(r"(?:res_)?conv1(_bn)?_(w|s|b|rm|riv)", rest):
        return _caffe2(f"{pathway}stem.", "norm" if match[1] else "conv", match[2])
    if match := re.fullmatch(r"res([2-5])_([0-9]{1,3})_branch(1|2[abc])(_bn)?_(w|s|b|rm|riv)", rest):
        kind = "norm" if match[4] else "conv"
        part = f"branch1_{kind}" if match[3] == "1" else f"branch2.{kind}_{match[3][1]}"
        return _caffe2(f"{pathway}res{match[1]}.{match[2]}.", part, match[5])
    if match := re.fullmatch(r"nonlocal_conv([2-5])_([0-9]{1,3})_(theta|phi|g|out|bn)_(w|s|b|rm|riv)", rest):
        part = {"out": "w_z", "bn": "norm"}.get(match[3], match[3])
        return _caffe2(f"{pathway}res{match[1]}.{match[2]}.inserted.", part, match[4])
    if match := re.fullmatch(r"(?:pool1|res([2-4])_[0-9]{1,3}_branch2c_bn)_subsample(_bn)?_(w|s|b|rm|riv)", rest):
        return _caffe2(f"fuse{match[1] or 1}.", "norm" if match[2] else "conv_fast_to_slow", match[3])
    if match := re.fullmatch(r"pred_([wb])", name):
        return f"head.fc.{_CAFFE2_CONV[match[1]]}"
    return None


def _caffe2(place: str, part: str, suffix: str) -> str | None:
    of_norm = "norm" in part
    kind = (_CAFFE2_NORM if of_norm else _CAFFE2_CONV).get(suffix)
    return kind and f"{place}{part}.{kind}"


def from_mmaction2(name: str) -> str | None:
    """Translate a weight name of MMAction2 to a plain name; None for an unknown name.

    The networks are ResNet3d and ResNet3dSlowOnly with an I3D head and mmcv's non-local blocks.
    """
    if match := re.fullmatch(r"backbone\.conv1\.(conv|bn)\.(\w+)", name):
        return f"stem.{'norm' if match[1] == 'bn' else 'conv'}.{match[2]}"
    if match := re.fullmatch(r"backbone\.layer([1-4])\.([0-9]{1,3})\.(.+)", name):
        place, rest = f"res{int(match[1]) + 1}.{match[2]}.", match[3]
        if part := re.fullmatch(r"(conv[123]|downsample)\.(conv|bn)\.(\w+)", rest):
            kind = "norm" if part[2] == "bn" else "conv"
            where = f"branch1_{kind}" if part[1] == "downsample" else f"branch2.{kind}_{'abc'[int(part[1][4]) - 1]}"
            return f"{place}{where}.{part[3]}"
        if part := re.fullmatch(r"non_local_block\.(theta|phi|g)(?:\.0)?\.conv\.(\w+)", rest):
            return f"{place}inserted.{part[1]}.{part[2]}"
        if part := re.fullmatch(r"non_local_block\.conv_out\.(conv|bn)\.(\w+)", rest):
            return f"{place}inserted.{'norm' if part[1] == 'bn' else 'w_z'}.{part[2]}"
        if rest == "non_local_block.concat_project.conv.weight":
            return f"{place}inserted.w_f"
    if match := re.fullmatch(r"cls_head\.fc_cls\.(\w+)", name):
        return f"head.fc.{match[1]}"
    return None
