"""Every config runs a step through the real command line, on synthesized data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from farfield import build_model, save_model
from farfield.data.manifest import read_manifest
from hugging_face import make_model, save

pytestmark = pytest.mark.slow

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
SWEEPS = sorted((Path(__file__).parents[1] / "configs" / "sweeps").glob("*.yaml"))
SMALL = (
    "--data.num_workers=0",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--report.every_n_epochs=0",
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_a_step(
    config: Path, figures: Path, recall: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    data = recall if config.stem.startswith("recall") else figures
    content = yaml.safe_load(config.read_text())
    options = [
        *([] if "model" in content else ["--config=figures_tiny_nl2"]),  # an addition to other recipes
        f"--config={config}",
        f"--run_dir={tmp_path}",
        f"--data.train={data / 'train.csv'}",
        f"--data.val={data / 'val.csv'}",
        "--data.batch_size=2",
        *SMALL,
    ]
    if content.get("model", {}).get("backbone", "").endswith("_r50"):  # a narrow network, smaller clips, no weights
        options += ["--model.clip.num_frames=4", "--model.clip.crop_px=32", "--model.weights=null"]
        options += ["--model.backbone_options={width: 8}"]
        options += ["--data.augmentation.short_side_px=[36, 40]"] * ("short_side_px" in config.read_text())
        options += ["--trainer.check_val_every_n_epoch=1", "--trainer.precision=32-true"]
        options += ["--model.optimisation.precise_bn_batches=1"] * ("precise_bn" in config.read_text())
    if content.get("model", {}).get("backbone") == "hf":  # a small encoder in place of a name on huggingface.co
        few = {"decoder_hidden_size": 24, "decoder_num_attention_heads": 3, "decoder_num_hidden_layers": 1}
        if "vjepa2" in content["model"]["weights"]:
            encoder = save(make_model("vjepa2", "Model"), tmp_path / "encoder")
        else:
            model = make_model("videomae", "ForPreTraining", use_mean_pooling=False, **few)
            encoder = save(model, tmp_path / "encoder")
        options += [f"--model.weights={encoder}", "--trainer.precision=32-true"]
    if "teacher" in content.get("model", {}):
        teacher = build_model("tiny", labels=read_manifest(data / "train.csv").labels, clip={"crop_px": 24})
        save_model(teacher, tmp_path / "teacher.ckpt")
        options += [f"--model.teacher={tmp_path / 'teacher.ckpt'}"]
        options += ["--model.weights=null", "--model.clip.num_frames=4", "--model.clip.crop_px=64"]
        options += ["--trainer.sync_batchnorm=false", "--trainer.precision=32-true"]
    options += ["--data.negative_share=0"] * ("untrimmed: true" in config.read_text())  # the videos have no free time
    is_probe = "probe" in content
    if is_probe:
        options += ["--probe.learning_rates=[0.001]", "--probe.weight_decays=[0.1]", "--probe.epochs=1"]
        options += ["--probe.min_steps=1", "--probe.train_views=1", "--model.clip.num_frames=4"]
    assert run_farfield("fit", *options) == 0
    assert (tmp_path / "checkpoints" / ("best.ckpt" if is_probe else "last.ckpt")).is_file()


def test_headers_name_their_command() -> None:
    for config in CONFIGS:
        header = [line for line in config.read_text().splitlines() if line.startswith("#")]
        command = rf"farfield fit (--config \w+ )?--config {config.stem}\b"
        assert any(re.search(command, line) for line in header), config.name
    for sweep in SWEEPS:
        assert f"wandb sweep {sweep.name}" in sweep.read_text()


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
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    about = yaml.safe_load(sweep.read_text())
    assert about["metric"] == {"name": "val/top1", "goal": "maximize"}
    chosen = {name: {"value": (p.get("values") or [p.get("min")])[-1]} for name, p in about["parameters"].items()}
    words = create_sweep_command(about["command"])
    assert words[:3] == ["${env}", "${program}", "fit"]
    assert words[-1] == "${args}"
    data = recall if sweep.stem.startswith("recall") else figures
    options = [*words[3:-1], *create_sweep_command_args({"args": chosen})["args"], *SMALL, f"--run_dir={tmp_path}"]
    options += [f"--data.train={data / 'train.csv'}", f"--data.val={data / 'val.csv'}", "--data.batch_size=2"]
    monkeypatch.chdir(tmp_path)  # its recipe is found by name
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_RUN_ID", "run7")
    assert run_farfield("fit", *options) == 0
    assert (tmp_path / "run7/checkpoints/last.ckpt").is_file()
