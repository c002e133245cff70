"""Run or parse the commands of a page: farfield's own, its scripts, and those that start or install them."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from docs.markdown_blocks import REPOSITORY
from docs.page_folder import PREPARED, UNTRIMMED
from farfield import FarfieldError, build_model
from farfield.build import resolve_clip
from farfield.cli import COMMANDS, main
from farfield.options.parser import parse
from farfield.training import config as training_config
from farfield.training.config import TrainingRun, make_run

SCRIPTS = {"train.py": ("fit",), "infer_clip.py": ("predict",), "prepare_kinetics.py": ("data", "prepare")}
"""Scripts that are a command under another name."""
EXTRA_WORDS: dict[str, tuple[str, ...]] = {
    "test": ("--data.num_workers=0", "--accelerator=cpu"),
    "validate": ("--data.num_workers=0", "--accelerator=cpu"),
    "data index": ("--num_workers=1",),
    "data prepare": ("--num_workers=1",),
    "data verify": ("--num_workers=1",),
    "data synthesize": ("--num_workers=1",),
}
"""Options that make a command start no processes."""
FEW_VIDEOS = {"figures": (40, 10, 10), "crowd": (10, 5, 5)}
"""Numbers of training, validation and test videos; those of figures are there already (page_folder.py)."""
SMALL_FIT = {
    "trainer.max_epochs": 1,
    "trainer.limit_train_batches": 1,
    "trainer.limit_val_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.precision": "32-true",
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "model.clip.num_frames": 4,
    "model.clip.crop_px": 32,
    "model.clip.test_crop_px": 32,
    "model.clip.num_clips": 2,
    "model.clip.num_crops": 1,
    "model.execution.compile": False,
    "data.batch_size": 4,
    "data.num_workers": 0,
    "wandb.mode": "disabled",
    "report.every_n_epochs": 0,
}
SMALL_PROBE = {"probe.min_steps": 3, "probe.epochs": 1, "probe.train_views": 1, "probe.curve_draws": 0}


def run_command(words: list[str]) -> int:
    """Run a command of a page, with little data and few steps, and return its exit status."""
    if ours := _farfield_words(words):
        return _run_farfield(ours)
    status = _checked_only(words)
    if status is not None:
        return status
    program, *rest = words
    if program.startswith("python"):
        return subprocess.run([sys.executable, *rest], check=False).returncode
    print(
        f"{program} is not run in this test. Mark the block by a comment, such as <!-- needs: cluster -->.",
        file=sys.stderr,
    )
    return 127


def parse_command(words: list[str]) -> int:
    """Parse a command of a page without running it, and return its exit status."""
    if ours := _farfield_words(words):
        return parse_farfield(ours)
    return _checked_only(words) or 0


def _checked_only(words: list[str]) -> int | None:
    """Check a command that is never run, an installation or a script; return its exit status, or None for another."""
    program, *rest = words
    if program == "reproduce_kinetics.sh":  # starts the script of the same name
        return parse_script(REPOSITORY / "scripts/reproduce_kinetics.py", rest)
    if program == "pip":
        return check_extras(rest)
    if program.startswith("python"):
        if rest[:2] == ["-m", "pip"]:
            return check_extras(rest[2:])
        if rest and (script := _script(rest[0])):
            return parse_script(script, rest[1:])
    return None


def _farfield_words(words: list[str]) -> list[str] | None:
    """Return the words of the command line that a command starts, such as torchrun; None if it is another."""
    program, *rest = words
    if program == "farfield":
        return rest
    if program.startswith("python"):
        if rest[:2] == ["-m", "farfield"]:
            return rest[2:]
        script = _script(rest[0]) if rest else None
        return [*SCRIPTS[script.name], *rest[1:]] if script and script.name in SCRIPTS else None
    if program in ("torchrun", "srun") and "farfield" in rest:
        return rest[rest.index("farfield") + 1 :]
    if program == "sbatch" and "scripts/train_slurm.sbatch" in rest:
        return ["fit", *rest[rest.index("scripts/train_slurm.sbatch") + 1 :]]
    return None


def _script(word: str) -> Path | None:
    """Return one of the repository's scripts from a word that looks like its path."""
    found = re.fullmatch(r"(?:\./)?scripts/(\w+\.py)", word)
    if found is None:
        return None
    script = REPOSITORY / "scripts" / found[1]
    if not script.exists():
        raise FileNotFoundError(f"there is no {word}")
    return script


def command_name(words: list[str]) -> str:
    """Return the command that words after `farfield` name, such as "data index"."""
    two = " ".join(words[:2])
    return two if two in COMMANDS else words[0] if words else ""


def _run_farfield(words: list[str]) -> int:
    """Run a command of the real command line; `serve` is only parsed, since it does not end."""
    name = command_name(words)
    if name == "serve":
        return parse_farfield(words)
    extra = list(EXTRA_WORDS.get(name, ()))
    if name == "data synthesize" and words[2:3] == ["untrimmed"]:  # rendering minutes of video takes long
        if status := parse_farfield(words):
            return status
        shutil.copytree(UNTRIMMED, words[3], copy_function=os.link, dirs_exist_ok=False)
        return 0
    if name == "data synthesize":
        few = FEW_VIDEOS.get(words[2], (4, 4, 4))
        given = " ".join(words)
        extra += [
            f"--num_{each}={n}"
            for each, n in zip(("train", "val", "test"), few, strict=True)
            if f"num_{each}" not in given
        ]
    return main([*words, *extra])


def parse_farfield(words: list[str]) -> int:
    """Parse a command with the real parser; of `fit`, the whole config is resolved. Return the exit status."""
    name = command_name(words)
    if name == "fit" and not {"--help", "-h"} & set(words):
        return parse_fit(words[1:])
    if name not in COMMANDS or {"--help", "-h"} & set(words):
        return main(words)
    command = COMMANDS[name]
    module, function = command.function.split(":")
    rest = [word for word in words[len(name.split()) :] if word != "--offline"]
    try:
        parse(getattr(import_module(module), function), rest, prog=f"farfield {name}", positionals=command.positionals)
    except FarfieldError as error:
        print(f"farfield {name}: {error}", file=sys.stderr)
        return 2
    return 0


def parse_fit(words: list[str]) -> int:
    """Resolve a training config whose weights and teacher need not exist."""

    def clip_of_backbone(backbone: str, clip: Any = None, weights: Any = None, *options: Any) -> Any:
        known = weights is None or Path(weights).exists()
        return resolve_clip(backbone if backbone != "hf" else "tiny", clip, weights if known else None)

    with (
        patch.object(training_config, "resolve_clip", clip_of_backbone),
        patch.object(training_config, "teacher_clip", lambda path: None),
    ):
        try:
            check_network(resolved_config(words))
        except FarfieldError as error:
            print(f"farfield fit: {error}", file=sys.stderr)
            return 2
    return 0


def resolved_config(words: list[str]) -> dict[str, Any]:
    """Return every value of a training config.

    Raises:
        FarfieldError: for an unknown option, a value of the wrong type or an unknown recipe.
    """
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        make_run([word for word in words if word != "--print_config"] + ["--print_config"])
    return yaml.safe_load(shown.getvalue())


def check_network(config: dict[str, Any]) -> None:
    """Build a config's network without memory and weights, to see that its parts go together.

    Raises:
        FarfieldError: if they do not, such as blocks in a stage that the network does not have.
    """
    model = config["model"]
    if model["backbone"] == "hf":  # its config is in the folder of the weights
        return
    names = ("backbone_options", "insert", "block", "block_options", "head", "head_windows", "head_options")
    options = {name: model[name] for name in names if name in model}
    with torch.device("meta"):
        build_model(model["backbone"], num_classes=7, **options)


def small_fit(words: list[str], config: dict[str, Any]) -> list[str]:
    """Return the words of a training with few steps, small clips and a small network; see the test's docstring.

    Args:
        words: the words of the page.
        config: the values that they set.
    """
    check_network(config)
    model = config["model"]
    more: dict[str, Any] = dict(SMALL_FIT)
    options = model["backbone_options"] or {}
    if not model["backbone"].startswith("tiny"):
        more["model.backbone"], options = "tiny", {}
        if model["optimisation"]["freeze_through"]:
            more["model.optimisation.freeze_through"] = "res2"
    more["model.backbone_options"] = {**options, "depth": 1}
    if isinstance(model["insert"], str):
        more["model.insert"] = {"res3": [0]}
    elif model["insert"] and "top" not in model["insert"]:
        more["model.insert"] = {stage: [0] for stage in model["insert"]}
    if model["weights"] is not None and not Path(model["weights"]).exists():
        more["model.weights"] = None
    if config["probe"] is not False:
        more |= SMALL_PROBE
    run = Path(config["run_dir"])
    if (run / PREPARED).exists():
        shutil.rmtree(run)
    return [*words, *(f"--{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in more.items())]


@contextlib.contextmanager
def small_trainings() -> Iterator[None]:
    """Let `farfield fit` and `farfield.train` train as `small_fit` says."""

    parse_arguments = TrainingRun.parse_arguments

    def parse_small(run: TrainingRun, parser: Any, words: Any) -> None:
        parse_arguments(run, parser, words)
        parse_arguments(run, parser, small_fit(list(words), run.config.as_dict()))

    with patch.object(TrainingRun, "parse_arguments", parse_small):
        yield


class _Parsed(BaseException):
    pass


def parse_script(script: Path, words: list[str]) -> int:
    """Parse the options of one of the repository's scripts by its own parser, and return the exit status."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
        original(self, *arguments, **options)
        raise _Parsed

    with (
        patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        patch.object(sys, "argv", [str(script), *words]),
        patch.object(sys, "path", [str(script.parent), *sys.path]),
        contextlib.suppress(_Parsed),
    ):
        runpy.run_path(str(script), run_name="__main__")
        print(f"{script.name} has no parser", file=sys.stderr)
        return 2
    return 0


def check_extras(words: list[str]) -> int:
    """Check that the extras of farfield that `pip install` is given exist; nothing is installed."""
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        found = re.match(r"(?:farfield|\.)\[([\w,-]+)\]", word)
        for extra in found[1].split(",") if found else ():
            if extra not in known:
                print(f"farfield has no extra {extra!r}; it has {', '.join(known)}", file=sys.stderr)
                return 2
    return 0
