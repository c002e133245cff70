"""Console summary of `farfield convert`."""

from __future__ import annotations

from farfield.checkpoints.converters.convert_file import ConversionReport
from farfield.clip_spec import ClipSpec
from farfield.models.network import ActionNet
from farfield.task import DEFAULT_TASK


def network_summary(network: ActionNet) -> str:
    """Format a network's backbone, inserted blocks, number of classes and task in one line."""
    config = network.config
    shown = {key: value for key, value in config["backbone_options"].items() if key != "config"}  # of hf: too long
    if "config" in config["backbone_options"]:
        shown["model_type"] = config["backbone_options"]["config"]["model_type"]
    options = "".join(f" {key}={value}" for key, value in shown.items())
    inserted = f", {config['block']} {config['block_options']} at {config['insert']}" if config["insert"] else ""
    task = "" if network.task == DEFAULT_TASK else f", {network.task}"
    return f"{config['backbone']}{options}{inserted}, {len(network.labels)} classes{task}"


def conversion_summary(network: ActionNet, report: ConversionReport, out: str) -> str:
    """Format the report of a conversion that wrote the file `out`."""
    clip = network.clip
    windows = f", windows {network.config['head_windows']}" if network.config["head_windows"] else ""
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        f"{out}: from {report.origin}",
        f"  network   {network_summary(network)}, {parameters:,} parameters",
        f"  head      {network.config['head']}{windows}",
        f"  clips     {_frames(clip)}, {clip.crop_px} px in training",
        f"  test      {clip.num_clips} clips x {clip.num_crops} crops of {clip.test_side_px} px, "
        f"short side {clip.test_short_side_px} px, {clip.views_aggregation} of the probabilities",
        f"  pixels    mean {_three(clip.mean)}, standard deviation {_three(clip.std)}",
        f"  weights   {len(report.mapped)} mapped, 0 missing, 0 unexpected, 0 of other shapes",
    ]
    if report.set_to_zero:
        lines.append(f"            batch-norm counters missing in the file, set to 0: {len(report.set_to_zero)}")
    for name, reason in report.ignored:
        lines.append(f"  ignored   {name}: {reason}")
    lines += [f"  note      {note}" for note in report.notes]
    return "\n".join(lines)


def _frames(clip: ClipSpec) -> str:
    rate = "" if clip.target_fps is None else f" at {clip.target_fps:g} frames per second"
    if clip.short_clip == "clamp":
        rate += ", short videos clamped"
    if clip.sampling == "segments":
        return f"{clip.num_frames} frames, one of each part of the video{rate} (segment_offsets {clip.segment_offsets})"
    return f"{clip.num_frames} frames at stride {clip.frame_stride}{rate}"


def _three(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
