"""Failed allocations end in one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from farfield import build_model, save_model
from farfield.memory_errors import describe_out_of_memory, is_out_of_memory

TOO_WIDE = 2**24
"""Side in pixels of a frame that no machine can hold."""


def pytorch_error() -> RuntimeError:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    return failed.value


def numpy_error() -> MemoryError:
    with pytest.raises(MemoryError) as failed:
        np.empty(2**60, dtype=np.uint8)
    return failed.value


def test_failed_allocations_are_recognised() -> None:
    found = pytorch_error()
    assert is_out_of_memory(found), f"PyTorch {torch.__version__} words it otherwise: {found}; adapt is_out_of_memory"
    assert is_out_of_memory(numpy_error())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("a size does not fit"))
    assert not is_out_of_memory(ValueError("cannot allocate memory"))


def test_the_description_names_the_device_and_the_size() -> None:
    assert describe_out_of_memory(pytorch_error()) == f"this machine has too little free memory for {2**60} bytes more"
    assert describe_out_of_memory(numpy_error()) == "this machine has too little free memory for 1.00 EiB more"
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of")
    assert describe_out_of_memory(on_gpu) == "the GPU has too little free memory for 20.00 MiB more"
    cublas = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert describe_out_of_memory(cublas) == "the GPU has too little free memory"


def test_training_says_what_needs_less(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--data.train={figures / 'train.csv'}", f"--data.val={figures / 'val.csv'}", "--data.num_workers=0"]
    words += ["--model.backbone=tiny", "--model.clip.num_frames=4", f"--model.clip.crop_px={TOO_WIDE}"]
    assert run_farfield("fit", f"--run_dir={tmp_path / 'run'}", "--trainer.max_epochs=1", *words) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("farfield fit: this machine has too little free memory")
    assert "trainer.precision bf16-mixed" in message
    assert message.endswith("data.batch_size is 8.")


def test_a_prediction_says_what_needs_less(
    make_video: Callable[..., Path],
    tmp_path: Path,
    run_farfield: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = build_model("tiny", labels=["run", "jump"], clip={"num_frames": 4, "crop_px": TOO_WIDE})
    save_model(wide, tmp_path / "wide.ckpt")
    assert run_farfield("predict", make_video(20), "--checkpoint", tmp_path / "wide.ckpt", "--device", "cpu") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("farfield predict: this machine has too little free memory")
    assert "view_batch_size" in message
