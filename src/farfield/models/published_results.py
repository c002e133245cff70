"""Kinetics-400 results that other projects published for their networks. They are not measured with farfield."""

from __future__ import annotations

from dataclasses import dataclass

from farfield.models.insertion import PRESETS
from farfield.models.network import ActionNet


@dataclass(frozen=True)
class PublishedResult:
    """A published result on Kinetics-400.

    Attributes:
        source: publication or model zoo.
        parameters_m: parameters in millions; None if not published.
        gflops: multiply-adds of one view in billions, counted by the source at its test crop; None if not published.
        top1: top-1 accuracy in per cent.
        views: views per video for `top1`, as clips x crops, e.g. "10 x 3".
    """

    source: str
    parameters_m: float | None
    gflops: float | None
    top1: float
    views: str

    def __str__(self) -> str:
        counts = [
            "" if self.parameters_m is None else f"{self.parameters_m:.2f} M parameters, ",
            "" if self.gflops is None else f"{self.gflops:g} GFLOPs as counted by the source at its test crop, ",
        ]
        return f"{''.join(counts)}top-1 {self.top1:.1f}% on Kinetics-400 with {self.views} views ({self.source})"


def published_figures(network: ActionNet) -> PublishedResult | None:
    """Return the published Kinetics-400 result for the network's backbone and inserted blocks.

    The result is None if none is published, if the network's clip length or crop size is not the backbone's default,
    or if the network has backbone options.
    """
    insert, config = network.config["insert"], network.config
    if isinstance(insert, dict):
        presets = PRESETS if network.backbone.stage_specs else {}
        insert = next((name for name, preset in presets.items() if preset(network.backbone) == insert), "custom")
    own = network.backbone.clip
    sizes = (network.clip.num_frames, network.clip.crop_px) == (own.num_frames, own.crop_px)
    if config["block"] != "non_local" or config["backbone_options"] or not sizes:
        return None
    return PUBLISHED.get((config["backbone"], insert))


_ZOO = "PyTorchVideo's model zoo"
_TV = "torchvision's weights"

PUBLISHED: dict[tuple[str, str | None], PublishedResult] = {
    ("c2d_r50", None): PublishedResult(_ZOO, 24.33, 25.89, 71.46, "10 x 3"),
    ("i3d_r50", None): PublishedResult(_ZOO, 28.04, 37.53, 73.27, "10 x 3"),
    ("i3d_r50", "nl5"): PublishedResult("PySlowFast's model zoo", None, None, 74.0, "10 x 3"),
    ("slow_r50", None): PublishedResult(_ZOO, 32.45, 54.52, 74.58, "10 x 3"),
    ("slowfast_r50", None): PublishedResult(_ZOO, 34.57, 65.71, 76.94, "10 x 3"),
    ("slowfast_r101", None): PublishedResult(_ZOO, 62.83, 127.20, 77.90, "10 x 3"),
    ("slowfast_16x8_r101", None): PublishedResult(_ZOO, 53.77, 215.61, 78.70, "10 x 3"),
    ("csn_r101", None): PublishedResult(_ZOO, 22.21, 75.62, 77.00, "10 x 3"),
    ("r2plus1d_r50", None): PublishedResult(_ZOO, 28.11, 76.45, 76.01, "10 x 3"),
    ("x3d_xs", None): PublishedResult(_ZOO, 3.79, 0.91, 69.12, "10 x 3"),
    ("x3d_s", None): PublishedResult(_ZOO, 3.79, 2.96, 73.33, "10 x 3"),
    ("x3d_m", None): PublishedResult(_ZOO, 3.79, 6.72, 75.94, "10 x 3"),
    ("x3d_l", None): PublishedResult(_ZOO, 6.15, 26.64, 77.44, "10 x 3"),
    ("r3d_18", None): PublishedResult(_TV, 33.37, 40.70, 63.20, "5 x 1"),
    ("mc3_18", None): PublishedResult(_TV, 11.70, 43.34, 63.96, "5 x 1"),
    ("r2plus1d_18", None): PublishedResult(_TV, 31.51, 40.52, 67.46, "5 x 1"),
    ("s3d", None): PublishedResult(_TV, 8.32, 17.98, 68.37, "1 x 1"),
    ("mvit_v1_b", None): PublishedResult(_TV, 36.61, 70.60, 78.48, "5 x 1"),
    ("mvit_v2_s", None): PublishedResult(_TV, 34.54, 64.22, 80.76, "5 x 1"),
    ("swin3d_t", None): PublishedResult(_TV, 28.16, 43.88, 77.72, "12 x 1"),
    ("swin3d_s", None): PublishedResult(_TV, 49.82, 82.84, 79.52, "12 x 1"),
    ("swin3d_b", None): PublishedResult(_TV, 88.05, 140.67, 79.43, "12 x 1"),
}
