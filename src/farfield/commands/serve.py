"""`farfield serve`: a web page that recognises actions, and plain HTTP for programs."""

from __future__ import annotations

from importlib.util import find_spec

from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError
from farfield.precision import Precision
from farfield.server.limits import Limits, ServerSettings


def serve(
    *,
    checkpoint: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: list[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    threads: int | None = None,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    window_seconds: float | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> int:
    """Serves a web page: drop or record a clip, see its labels, its timeline, and what a point attends to.

    Programs send POST /predict (a form's file, or a body that is one) and get JSON; GET /health says how the server is.
    It listens to this machine alone unless told otherwise, and asks nobody who they are: on a network, put it behind a
    proxy that does, and that passes the Host header on; give the proxy's name, as --names [video.example.org]. What is
    sent is decoded in processes of their own, within limits. Programs' files are deleted when they are answered, those
    of the page after limits.keep_seconds.

    Args:
        checkpoint: a .ckpt file, or an exported network; labels, sampling and normalisation come from it.
        host: address to listen on; 0.0.0.0 for all of this machine's.
        port: to listen on; 0 for any that is free.
        names: by which browsers know a proxy in front of it. A request to this machine under another name than its own
            and these is refused, as is what a page of another name sends.
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: what to compute in: float32, bfloat16, float16 (GPUs).
        threads: of PyTorch on the CPU, in each process; null for an equal share of the cores.
        top_k: classes in a ranking.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        window_seconds: length of a timeline's window; null for the network's own.
        limits: what a request may cost.
    """
    quiet_libraries()
    missing = [name for name in ("gradio", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise FarfieldError(
            f'the page needs {", ".join(missing)}, which is not installed: pip install "farfield[demo]"'
        )
    for name, count in (("top_k", top_k), ("num_clips", num_clips), ("num_crops", num_crops), ("threads", threads)):
        if count is not None and count < 1:
            raise FarfieldError(f"{name} is {count}; it must be at least 1.")
    if window_seconds is not None and not window_seconds > 0:
        raise FarfieldError(f"window_seconds is {window_seconds}; it must be positive.")
    from farfield.server.app import serve as run

    settings = ServerSettings(
        checkpoint,
        limits,
        device=device,
        precision=precision,
        threads=threads,
        top_k=top_k,
        num_clips=num_clips,
        num_crops=num_crops,
        window_seconds=window_seconds,
    )
    run(settings, host=host, port=port, names=names or [])
    return 0
