"""Every config runs a step through the real command line, on synthesized data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_a_step(
    config: Path, figures: Path, recall: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    data = recall if config.stem.startswith("recall") else figures
    options = [
        f"--config={config}",
        f"--run_dir={tmp_path}",
        f"--data.train={data / 'train.csv'}",
        f"--data.val={data / 'val.csv'}",
        "--data.batch_size=2",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false",
    ]
    assert run_farfield("fit", *options) == 0
    assert (tmp_path / "checkpoints/last.ckpt").is_file()


def test_headers_name_their_command() -> None:
    for config in CONFIGS:
        header = [line for line in config.read_text().splitlines() if line.startswith("#")]
        assert any(f"farfield fit --config configs/{config.name}" in line for line in header), config.name
