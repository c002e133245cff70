"""The JavaScript runtime that yt-dlp needs for YouTube: which is asked for, and whether it is there.

yt-dlp 2025.11 and newer solve YouTube's challenges by scripts (the package yt-dlp-ejs) in a runtime beside Python. By
default it takes deno only, whose scripts can read no file and reach no network.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from farfield.errors import FarfieldError, nearest

DEFAULT = "deno"


def runtime_options(runtime: str) -> dict[str, dict[str, str]]:
    """Return yt-dlp's option js_runtimes.

    Args:
        runtime: a name that yt-dlp knows (deno, node, bun, quickjs), or name:path.

    Raises:
        FarfieldError: for another name.
    """
    name, _, path = runtime.partition(":")
    if name not in _known():
        raise FarfieldError(f"js_runtime is {runtime!r}. {nearest(name, _known())}")
    return {name: {"path": path} if path else {}}


def why_unavailable(runtime: str) -> str | None:
    """Say what yt-dlp lacks to run scripts, and what to do; None where it lacks nothing.

    Args:
        runtime: as `runtime_options` takes it.
    """
    [(name, options)] = runtime_options(runtime).items()
    found = _known()[name](path=options.get("path")).info
    if found is None:
        lack = f"no JavaScript runtime: there is no {runtime}"
    elif not found.supported:
        oldest = ".".join(map(str, _known()[name].MIN_SUPPORTED_VERSION))
        lack = f"no JavaScript runtime: {found.path} is {name} {found.version}, and {oldest} is the oldest that serves"
    elif find_spec("yt_dlp_ejs") is None:
        lack = "no scripts: the package yt-dlp-ejs is not installed"
    else:
        return None
    return (
        f"yt-dlp has {lack}. Without it, many of YouTube's formats are missing and clips fail. "
        "pip install 'farfield[download]' brings all of it, deno too; --js_runtime takes another runtime."
    )


def _known() -> dict[str, Any]:
    """yt-dlp's classes of runtimes by name. Its module `globals` is not documented: this is the one place."""
    try:
        from yt_dlp.globals import supported_js_runtimes
    except ImportError as error:
        raise FarfieldError(
            "the installed yt-dlp runs no scripts, which YouTube needs. Update it: pip install -U 'farfield[download]'"
        ) from error
    return supported_js_runtimes.value
