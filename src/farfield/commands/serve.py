"""`farfield serve`: serve predictions on a web page and by an HTTP API."""

from __future__ import annotations

from importlib.util import find_spec

from farfield.commands.console import quiet_libraries
from farfield.errors import FarfieldError
from farfield.precision import Precision
from farfield.server.limits import Limits, ServerSettings
from farfield.timelines.window_lengths import check_window_lengths
from farfield.video.decoder_names import Decoder


def serve(
    *,
    checkpoint: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: list[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    decoder: Decoder = "pyav",
    threads: int | None = None,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    window_seconds: float | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> int:
    """Serve a web page (upload or record a clip; see labels, timeline and attention) and an HTTP API.

    POST /predict (with the video as the file of a form, or as the body) returns JSON; GET /health returns the server's
    state. By default the server listens on the loopback interface only. It performs no authentication: to serve
    other machines, put it behind a proxy that authenticates and forwards the Host header, and give the proxy's name, as
    --names [video.example.org].

    Uploads are decoded in separate processes, within limits. Uploads to the API are deleted after the response, and
    uploads from the page after limits.keep_seconds.

    Args:
        checkpoint: a .ckpt file, or an exported network; labels, sampling and normalisation come from it.
        host: address to listen on; 0.0.0.0 for all addresses of this machine.
        port: port to listen on; 0 for any free port.
        names: host names of proxies in front of the server. On the loopback interface, the server refuses requests
            whose Host header is neither one of its own names nor one of the names given here. On every interface, it
            refuses POST requests from pages of other origins, unless the origin's host is one of the names given here.
        device: where to run: auto, cpu, cuda, cuda:1.
        precision: number format: float32, bfloat16, float16 (GPUs).
        decoder: pyav or decord.
        threads: number of CPU threads that PyTorch uses in each process; null for an equal share of the cores.
        top_k: number of classes in a ranking.
        num_clips: clips spread over each video; null for the checkpoint's own setting.
        num_crops: crops of each clip; null for the checkpoint's own setting.
        window_seconds: length of a timeline's windows; null for the length of the network's clips.
        limits: limits on the resources of a request.
    """
    quiet_libraries()
    missing = [name for name in ("gradio", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise FarfieldError(
            f'the server needs packages that are not installed: {", ".join(missing)}. Run pip install "farfield[demo]".'
        )
    for name, count in (("top_k", top_k), ("num_clips", num_clips), ("num_crops", num_crops), ("threads", threads)):
        if count is not None and count < 1:
            raise FarfieldError(f"{name} is {count}; it must be at least 1.")
    check_window_lengths(None, None, window_seconds)
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
        decoder=decoder,
    )
    run(settings, host=host, port=port, names=names or [])
    return 0
