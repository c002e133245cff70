"""Configure and check the JavaScript runtime that yt-dlp needs for YouTube.

yt-dlp 2025.11 and newer run the scripts of the package yt-dlp-ejs in a JavaScript runtime. By default only deno is
enabled, since it denies scripts access to files and the network.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from farfield.errors import FarfieldError, nearest

DEFAULT = "deno"


def runtime_options(runtime: str) -> dict[str, dict[str, str]]:
    """Return the value of yt-dlp's option js_runtimes that enables one runtime.

    Args:
        runtime: name of one of yt-dlp's runtimes (deno, node, bun, quickjs), or name:path to give the runtime's path.

    Raises:
        FarfieldError: for an unknown runtime.
    """
    name, _, path = runtime.partition(":")
    if name not in _known():
        raise FarfieldError(f"js_runtime is {runtime!r}. {nearest(name, _known())}")
    return {name: {"path": path} if path else {}}


def why_unavailable(runtime: str) -> str | None:
    """Return a message that says what yt-dlp lacks to run JavaScript and how to install it; None if nothing is missing.

    Args:
        runtime: see `runtime_options`.
    """
    [(name, options)] = runtime_options(runtime).items()
    found = _known()[name](path=options.get("path")).info
    if found is None:
        lack = f"no JavaScript runtime: {runtime} was not found"
    elif not found.supported:
        oldest = ".".join(map(str, _known()[name].MIN_SUPPORTED_VERSION))
        lack = f"no JavaScript runtime: {found.path} is {name} {found.version}, and {oldest} or newer is needed"
    elif find_spec("yt_dlp_ejs") is None:
        lack = "no scripts: the package yt-dlp-ejs is not installed"
    else:
        return None
    return (
        f"yt-dlp has {lack}. Many of YouTube's formats will be missing, and clips will fail. Install the scripts and "
        "deno with pip install 'farfield[download]', or give another runtime as js_runtime."
    )


def _known() -> dict[str, Any]:
    """Return yt-dlp's JavaScript runtime classes by name.

    They are in yt-dlp's module `globals`, which is not documented. Only this function uses that module.
    """
    try:
        from yt_dlp.globals import supported_js_runtimes
    except ImportError as error:
        raise FarfieldError(
            "the installed yt-dlp cannot run the scripts that YouTube needs. Update it: "
            "pip install -U 'farfield[download]'"
        ) from error
    return supported_js_runtimes.value
