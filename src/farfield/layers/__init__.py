"""Self-contained drop-in layers for video tensors (b c t h w), as `nn.Module`s."""

from farfield.layers.attentive_pool import AttentivePool3d
from farfield.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, batch_norm, momentum_from_decay
from farfield.layers.batch_norm_diagnostics import NormReport, diagnose, format_reports, not_zero_at_init
from farfield.layers.coordinate_attention import CoordinateAttention
from farfield.layers.criss_cross import CrissCrossAttention
from farfield.layers.dual_attention import DualAttention, channel_attention
from farfield.layers.fold_batch_norm import fold_batch_norm
from farfield.layers.frame_conv import FrameConv3d, convolve_frames
from farfield.layers.frozen_batch_norm import FrozenBatchNorm3d, freeze_batch_norm
from farfield.layers.non_local import NonLocalBlock1d, NonLocalBlock2d, NonLocalBlock3d
from farfield.layers.object_context import ObjectContext
from farfield.layers.pairwise import concatenation, dot_product, embedded_gaussian
from farfield.layers.pointwise import PointwiseConv1d, PointwiseConv2d, PointwiseConv3d
from farfield.layers.pooling import GlobalAvgPool3d, frame_mask
from farfield.layers.precise_batch_norm import recalibrate
from farfield.layers.recomputation import recompute_activations
from farfield.layers.replace_modules import replace_modules
from farfield.layers.self_attention import SelfAttention
from farfield.layers.sub_batch_norm import SubBatchNorm3d, join_batch_norm, split_batch_norm
from farfield.layers.unfold_conv import UnfoldConv2d, UnfoldConv3d, fold, unfold, unfold_conv

__all__ = [
    "AttentivePool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CoordinateAttention",
    "CrissCrossAttention",
    "DualAttention",
    "FrameConv3d",
    "FrozenBatchNorm3d",
    "GlobalAvgPool3d",
    "NonLocalBlock1d",
    "NonLocalBlock2d",
    "NonLocalBlock3d",
    "NormReport",
    "ObjectContext",
    "PointwiseConv1d",
    "PointwiseConv2d",
    "PointwiseConv3d",
    "SelfAttention",
    "SubBatchNorm3d",
    "UnfoldConv2d",
    "UnfoldConv3d",
    "batch_norm",
    "channel_attention",
    "concatenation",
    "convolve_frames",
    "diagnose",
    "dot_product",
    "embedded_gaussian",
    "fold",
    "fold_batch_norm",
    "format_reports",
    "frame_mask",
    "freeze_batch_norm",
    "join_batch_norm",
    "momentum_from_decay",
    "not_zero_at_init",
    "recalibrate",
    "recompute_activations",
    "replace_modules",
    "split_batch_norm",
    "unfold",
    "unfold_conv",
]
