"""Every config runs a step through the real command line, on synthesized data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
SWEEPS = sorted((Path(__file__).parents[1] / "configs" / "sweeps").glob("*.yaml"))
SMALL = (
    "--data.num_workers=0",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_a_step(
    config: Path, figures: Path, recall: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    data = recall if config.stem.startswith("recall") else figures
    content = yaml.safe_load(config.read_text())
    options = [
        f"--config={config}",
        f"--run_dir={tmp_path}",
        f"--data.train={data / 'train.csv'}",
        f"--data.val={data / 'val.csv'}",
        "--data.batch_size=2",
        *SMALL,
    ]
    if content["model"]["backbone"].endswith("_r50"):  # smaller clips, no weights of a hub
        options += ["--model.clip={num_frames: 4, crop_px: 32}", "--model.weights=null", "--report.every_n_epochs=0"]
        options += ["--data.augmentation.short_side_px=[36, 40]"] * ("short_side_px" in config.read_text())
        options += ["--trainer.check_val_every_n_epoch=1", "--trainer.precision=32-true"]
        options += ["--model.optimisation.precise_bn_batches=1"] * ("precise_bn" in config.read_text())
    assert run_farfield("fit", *options) == 0
    assert (tmp_path / "checkpoints/last.ckpt").is_file()


def test_headers_name_their_command() -> None:
    for config in CONFIGS:
        header = [line for line in config.read_text().splitlines() if line.startswith("#")]
        assert any(f"farfield fit --config configs/{config.name}" in line for line in header), config.name


def test_kinetics_configs_are_one_recipe_but_for_the_network() -> None:
    """All from ImageNet train alike, and so do all from scratch; only backbone and blocks differ."""
    recipes: dict[str, list[dict]] = {"imagenet": [], "scratch": []}
    networks = set()
    for config in CONFIGS:
        if not config.stem.startswith("kinetics400"):
            continue
        _, backbone, _, blocks, kind = config.stem.split("_")
        content = yaml.safe_load(config.read_text())
        assert content.pop("run_dir") == f"runs/{config.stem}"
        assert content["model"].pop("backbone") == f"{backbone}_r50"
        assert content["model"].pop("insert", "nl0") == blocks
        recipes[kind].append(content)
        networks.add((backbone, blocks))
    assert len(networks) == 12
    for same in recipes.values():
        assert len(same) == 12
        assert all(each == same[0] for each in same)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_an_agent_of_a_sweep_runs_it(
    sweep: Path,
    figures: Path,
    recall: Path,
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The agent's own code makes the command; each run has its folder, named as the agent names the run."""
    about = yaml.safe_load(sweep.read_text())
    assert about["metric"] == {"name": "val/top1", "goal": "maximize"}
    chosen = {name: {"value": (p.get("values") or [p.get("min")])[-1]} for name, p in about["parameters"].items()}
    words = create_sweep_command(about["command"])
    assert words[:3] == ["${env}", "${program}", "fit"]
    assert words[-1] == "${args}"
    data = recall if sweep.stem.startswith("recall") else figures
    options = [*words[3:-1], *create_sweep_command_args({"args": chosen})["args"], *SMALL, f"--run_dir={tmp_path}"]
    options += [f"--data.train={data / 'train.csv'}", f"--data.val={data / 'val.csv'}", "--data.batch_size=2"]
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_RUN_ID", "run7")
    assert run_farfield("fit", *options) == 0
    assert (tmp_path / "run7/checkpoints/last.ckpt").is_file()
