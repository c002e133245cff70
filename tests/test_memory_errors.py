"""Failed allocations end in one line that says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from farfield import FarfieldError, build_model, evaluate, explain, predict, save_model
from farfield.cli import main
from farfield.data.manifest import read_manifest
from farfield.memory_errors import describe_out_of_memory, is_out_of_memory, out_of_memory_as_ours
from farfield.models.network import ActionNet
from farfield.training.train import LESS_MEMORY

TOO_WIDE = 2**24
"""Side in pixels of a frame that no machine can hold."""
GPU = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 139.72 GiB"


class TooLarge(Dataset):  # type: ignore[type-arg]
    """A data set whose samples no machine can hold."""

    def __init__(self, allocate: Callable[[int], object]) -> None:
        self.allocate = allocate

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> object:
        return self.allocate(2**60)


def error_of(make: Callable[[], object]) -> Exception:
    try:
        make()
    except Exception as error:
        error.__context__ = None  # a traceback keeps the loader's worker, whose end takes 5 s, in any later test
        return error.with_traceback(None)
    raise AssertionError("no error was raised")


@pytest.mark.parametrize(
    ("allocate", "size"),
    [
        (lambda size: np.zeros(size, dtype=np.uint8), "1.00 EiB"),
        (lambda size: torch.empty(size, dtype=torch.uint8), "1.00 EiB"),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_failed_allocations_are_recognised(allocate: Callable[[int], object], size: str, num_workers: int) -> None:
    error = error_of(lambda: next(iter(DataLoader(TooLarge(allocate), num_workers=num_workers))))
    assert is_out_of_memory(error), f"it is worded otherwise: {error}; adapt is_out_of_memory"
    assert describe_out_of_memory(error) == f"this machine has too little free memory for {size} more"


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (torch.OutOfMemoryError(GPU), "the GPU has too little free memory for 20.00 MiB more"),
        (RuntimeError(f"Caught OutOfMemoryError\n{GPU}"), "the GPU has too little free memory for 20.00 MiB more"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), "the GPU has too little free memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU has too little free memory"),
        (RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "the GPU has too little free memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "the GPU has too little free memory"),
        (RuntimeError("CUDA driver error: out of memory"), "the GPU has too little free memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB"), "the GPU has too little free memory"),
        (
            RuntimeError("not enough memory: you tried to allocate 3145728 bytes."),
            "this machine has too little free memory for 3.00 MiB more",
        ),
        (RuntimeError("unable to allocate shared memory(shm) for file"), "this machine has too little free memory"),
        (MemoryError("while cuda.py was imported"), "this machine has too little free memory"),
    ],
)
def test_the_message_names_the_device_and_the_size(error: Exception, described: str) -> None:
    assert is_out_of_memory(error)
    assert describe_out_of_memory(error) == described


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a size does not fit"),
        RuntimeError("call allocate memory() before step()"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nthe out of memory bank"),
        FarfieldError("CUDA out of memory"),
        KeyError("a"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, out_of_memory_as_ours("Do less."):
        raise error
    assert raised.value is error


def test_a_full_gpu_gets_its_own_advice() -> None:
    full = pytest.raises(FarfieldError, match=r"^the GPU .* 20\.00 MiB more\. Use the CPU\.$")
    with full, out_of_memory_as_ours("Do less.", on_gpu="Use the CPU."):
        raise torch.OutOfMemoryError(GPU)


KILLED = """
import os, signal, sys
from torch.utils.data import DataLoader
from farfield.memory_errors import describe_out_of_memory, is_out_of_memory

class Killed:
    def __init__(self, number):
        self.number = number

    def __len__(self):
        return 2

    def __getitem__(self, index):
        os.kill(os.getpid(), self.number)

for number in (signal.SIGKILL, signal.SIGBUS, signal.SIGTERM):
    try:
        next(iter(DataLoader(Killed(number), num_workers=1)))
    except RuntimeError as error:
        print(describe_out_of_memory(error) if is_out_of_memory(error) else "another error", flush=True)
"""


@pytest.mark.slow
def test_a_worker_that_the_system_killed_is_explained() -> None:
    """In a process of its own: PyTorch learns the signal only while its own handler of SIGCHLD is set."""
    run = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True)
    killed = "a data loader's process was killed, probably because memory or shared memory (/dev/shm) is full"
    assert run.stdout.splitlines() == [killed, killed, "another error"]


def test_a_bug_of_a_command_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("farfield.models.summary.summarise", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["summary", "tiny"])


def only_line(printed: str, command: str) -> str:
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("farfield ")]
    assert line == printed.strip().splitlines()[-1]
    start = f"farfield {command}: this machine has too little free memory for "
    assert line.startswith(start)
    return line.removeprefix(start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--data.num_workers=1"],
        ["--probe.heads=[linear]"],
    ],
)
def test_training_says_what_needs_less(
    more: list[str], figures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"--data.train={figures / 'train.csv'}", f"--data.val={figures / 'val.csv'}", "--data.num_workers=0"]
    words += ["--model.backbone=tiny", "--model.clip.num_frames=4", f"--model.clip.crop_px={TOO_WIDE}", *more]
    words += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", f"--run_dir={tmp_path / 'run'}"]
    assert main(["fit", *words]) == 2
    assert only_line(capfd.readouterr().err, "fit").endswith(LESS_MEMORY)


@pytest.fixture(scope="module")
def wide(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.ckpt"
    labels = read_manifest(figures / "test.csv").labels
    save_model(build_model("tiny", labels=labels, clip={"num_frames": 4, "crop_px": TOO_WIDE}), path)
    return path


def test_predictions_and_tests_say_what_needs_less(
    wide: Path, make_video: Callable[..., Path], figures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(make_video(20)), "--checkpoint", str(wide), "--device", "cpu"]) == 2
    assert "Give a smaller view_batch_size" in only_line(capfd.readouterr().err, "predict")
    for call in (
        lambda: predict(make_video(20), wide, progress=False),
        lambda: evaluate(wide, figures / "test.csv", num_workers=0, progress=False),
        lambda: explain(make_video(20), wide, progress=False),
    ):
        with pytest.raises(
            FarfieldError, match=r"this machine has too little free memory for .* more\. Give (a )?(fewer|smaller)"
        ):
            call()


def test_an_exported_networks_runtime_says_it_too(
    tmp_path: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from farfield import export, load_model

    network = build_model("tiny", num_classes=2, clip={"num_frames": 4, "crop_px": 32})
    loaded = load_model(export(network, tmp_path / "tiny.pt2", progress=False).out)
    assert not isinstance(loaded, ActionNet)

    def exhausted(clips: torch.Tensor) -> torch.Tensor:
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(loaded, "_run", exhausted)
    with pytest.raises(FarfieldError, match="too little free memory"):
        predict(make_video(20), loaded, progress=False)
