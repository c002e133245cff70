"""Run a page's Python blocks in one namespace, or check what they name."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import os
import traceback
from pathlib import Path
from typing import Any

from docs.bash_blocks import Failure, time_limit
from docs.markdown_blocks import REPOSITORY, Block


def run_python(block: Block, folder: Path, names: dict[str, Any]) -> Failure | None:
    """Run a block in a folder, with and into `names`; return the failure, if it raised one."""
    here, output = Path.cwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), time_limit():
            exec(_compiled(block), names)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(REPOSITORY / block.page)]
        shown = "".join([*traceback.format_list(frames[-3:]), *traceback.format_exception_only(error)])
        return Failure(f"{block.page}:{lines[-1] if lines else block.line}", output.getvalue()[-2000:] + shown)
    finally:
        os.chdir(here)
    return None


def _compiled(block: Block) -> Any:
    padded = "\n" * (block.line - 1) + block.code  # lines of a traceback are those of the page
    return compile(padded, str(REPOSITORY / block.page), "exec")


def check_python(block: Block) -> Failure | None:
    """Check that a block compiles, and that what it takes from farfield exists and takes the given keywords."""
    try:
        _compiled(block)
    except SyntaxError as error:
        return Failure(block.place, str(error))
    known: dict[str, Any] = {}
    for node in ast.walk(ast.parse(block.code)):
        try:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "farfield":
                for each in node.names:
                    known[each.asname or each.name] = _member(node.module or "", each.name)
            if isinstance(node, ast.Import):
                for each in node.names:
                    if each.name.split(".")[0] == "farfield":
                        importlib.import_module(each.name)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "farfield":
                _member("farfield", node.attr)
        except (ImportError, AttributeError) as error:
            return Failure(f"{block.page}:{block.line + node.lineno - 1}", f"{type(error).__name__}: {error}")
    for call in (node for node in ast.walk(ast.parse(block.code)) if isinstance(node, ast.Call)):
        if wrong := _unknown_keyword(call, known):
            return Failure(f"{block.page}:{block.line + call.lineno - 1}", wrong)
    return None


def _member(module: str, name: str) -> Any:
    owner = importlib.import_module(module)
    try:
        return getattr(owner, name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


def _unknown_keyword(call: ast.Call, known: dict[str, Any]) -> str | None:
    """Return what is wrong with the keywords of a call of something of farfield's; None if nothing is."""
    function = call.func
    if isinstance(function, ast.Name) and function.id in known:
        target = known[function.id]
    elif (
        isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "farfield"
    ):
        target = _member("farfield", function.attr)
    else:
        return None
    parameters = inspect.signature(target).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return None
    unknown = [each.arg for each in call.keywords if each.arg and each.arg not in parameters]
    return (
        f"{ast.unparse(function)} has no parameter {unknown[0]!r}; it has {', '.join(parameters)}" if unknown else None
    )
