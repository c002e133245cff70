"""Shared fixtures: generated videos whose frames tell their index, and a small synthetic data set."""

from __future__ import annotations

import gc
import logging
import multiprocessing.util
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "disabled")  # tests of tracking set it themselves
os.environ.setdefault("WANDB_SILENT", "true")

import shapes  # noqa: F401, I001  # before what it checks is imported
import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from farfield.synthetic.synthesize import synthesize
from farfield.video.writer import write_video
from forks import start_fork_server
from shared import made_once

LONGEST = (
    "docs/test_guide_blocks.py",
    "scripts/test_training_scripts.py",
    "checkpoints/test_converters.py",
    "training/test_two_processes.py",
    "inference/test_predict_cameras.py",
    "models/test_compilation.py",
    "training/test_distillation.py",
    "scripts/test_check_cameras.py",
    "training/test_fit.py",
    "probing/test_probe.py",
    "docs/test_code_blocks.py",
    "server/test_web_page.py",
    "video/test_decoding_matrix.py",
    "training/test_resume.py",
    "commands/test_export.py",
    "test_notebooks.py",
    "test_packaging.py",
    "server/test_http_api.py",
)
"""Files of more than 25 seconds, roughly the longest first. Some that wait stand beside some that compute."""

multiprocessing.util.get_temp_dir()  # the fork server's socket is in it: made before a test gives itself another folder
BITS = 10
CELL = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: one that a process begins last would keep the other processes waiting."""
    here = Path(__file__).parent
    place = {here / name: i for i, name in enumerate(LONGEST)}
    assert all(path.exists() for path in place)
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Collect garbage more rarely, and not in what the imports of all files made: each full collection took 0.3 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000)


@pytest.fixture
def types_unchecked() -> Iterator[None]:
    """Leaves wrong arguments to the code's own errors, as outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # for code that is not ours
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _log_reaches_pytest(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `caplog` see farfield's log, whatever handlers the command line or a library has left behind."""
    ours = logging.getLogger("farfield")
    monkeypatch.setattr(ours, "handlers", [caplog.handler])
    monkeypatch.setattr(ours, "propagate", False)


def numbered_frame(number: int, *, height: int = 48, width: int = 96) -> np.ndarray:
    """A frame that shows its number in `BITS` black or white cells, readable after compression."""
    frame = np.full((height, width, 3), 128, dtype=np.uint8)
    for bit in range(BITS):
        frame[CELL : 3 * CELL, (bit + 1) * CELL : (bit + 2) * CELL] = 235 if number >> bit & 1 else 20
    return frame


def number_of(frame: np.ndarray | torch.Tensor) -> int:
    """Reads what `numbered_frame` wrote, also after resizing."""
    frame = np.asarray(frame).astype(int)
    row = round(2 * CELL * frame.shape[0] / 48)
    columns = [round((bit + 1.5) * CELL * frame.shape[1] / 96) for bit in range(BITS)]
    return sum(int(frame[row, column].mean() > 128) << bit for bit, column in enumerate(columns))


def write_pictures(folder: Path, num_frames: int, *, template: str = "img_{:05}.jpg", first: int = 1) -> Path:
    """Writes a folder of numbered pictures, each of which shows its index, from 0; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(num_frames):
        Image.fromarray(numbered_frame(number)).save(folder / template.format(number + first), quality=90)
    return folder


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a numbered H.264 video: make_video(num_frames, fps=25) -> path."""
    folder = tmp_path_factory.mktemp("videos")

    def make(num_frames: int, *, fps: float = 25, name: str | None = None) -> Path:
        path = folder / (name or f"{num_frames}_at_{fps:g}.mp4")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, (numbered_frame(i) for i in range(num_frames)), fps=fps)
        return path

    return make


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small *figures* data set: 20 training, 10 validation and 10 test videos."""
    start_fork_server()

    def make(folder: Path) -> None:
        synthesize("figures", str(folder), num_train=20, num_val=10, num_test=10)

    with unchanged(made_once(tmp_path_factory, "figures", make)) as made:
        yield made


@pytest.fixture(scope="session")
def recall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small *recall* data set: 4 videos in each split."""

    def make(folder: Path) -> None:
        synthesize("recall", str(folder), num_train=4, num_val=4, num_test=4)

    with unchanged(made_once(tmp_path_factory, "recall", make)) as made:
        yield made


@contextmanager
def unchanged(folder: Path) -> Iterator[Path]:
    """Fail if a test has written into a folder that all share."""

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}

    before = files()
    yield folder
    assert files() == before


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> dict[str, Path]:
    """Files that real collections contain among their videos."""
    folder = tmp_path_factory.mktemp("bad")
    whole = make_video(40).read_bytes()
    damaged = bytearray(whole)
    start = len(damaged) // 3
    damaged[start : start + len(damaged) // 3] = random.Random(3).randbytes(len(damaged) // 3)
    content = {
        "empty.mp4": b"",
        "text.mp4": b"this is no video\n" * 50,
        "truncated.mp4": whole[:300],  # inside the index
        "corrupt.mp4": bytes(damaged),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    _write_audio(folder / "audio_only.mp4")
    return {path.stem: path for path in sorted(folder.iterdir())} | {"missing": folder / "missing.mp4"}


def _write_audio(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.fixture(scope="session")
def run_farfield() -> Callable[..., int]:
    """Runs a command of the real command line in this process; returns its exit status."""
    from farfield.cli import main

    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local cluster of two workers, which can import the tests' own functions."""
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by itself 15: beside other tests, imports of workers took a minute
    here = str(Path(__file__).parent)
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
    yield
    ray.shutdown()
