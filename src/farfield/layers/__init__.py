"""The internal layers package: drop-in `nn.Module`s that stand alone, over b c t h w."""

from farfield.layers.batch_norm import BatchNorm3d, batch_norm
from farfield.layers.non_local import NonLocalBlock3d, embedded_gaussian
from farfield.layers.pooling import GlobalAvgPool3d

__all__ = ["BatchNorm3d", "GlobalAvgPool3d", "NonLocalBlock3d", "batch_norm", "embedded_gaussian"]
