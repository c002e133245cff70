"""Console summary of a probe: heads trained on the features of a frozen network."""

from __future__ import annotations

from pathlib import Path

from farfield.probing.result import ProbeResult, headline


def probe_summary(result: ProbeResult, run_dir: Path) -> str:
    """Format the best configuration of each head, and the paths of the checkpoint and the report."""
    videos = ", ".join(f"{count} {name}" for name, count in result.num_videos.items())
    lines = [f"{len(result.configurations)} configurations on {videos} videos; the best by {result.monitor}:"]
    for name, head in result.heads.items():
        lr, decay = head.configuration
        line = f"{name:<10} lr {lr:<7g} weight decay {decay:<7g} {result.monitor} {head.figures[result.monitor]:.4f}"
        if head.test is not None:
            metric, value = headline(head.test)
            low, high = 100 * value.low, 100 * value.high
            line += f"   test {metric} {100 * value.value:6.2f}%   95% interval {low:.1f} to {high:.1f}"
        lines.append(line + ("   <- best" if name == result.head else ""))
    if len(result.curve) > 1:
        points = ", ".join(f"{each.videos_per_class}: {100 * each.mean:.1f}%" for each in result.curve)
        lines.append(f"by number of training videos per class, measured on {result.curve_on} videos: {points}")
    if result.failures:
        lines.append(f"videos that could not be read: {len(result.failures)}, listed in {run_dir / 'probe.json'}")
    return "\n".join([*lines, f"checkpoint: {result.checkpoint}", f"report: {run_dir / 'report.html'}"])
