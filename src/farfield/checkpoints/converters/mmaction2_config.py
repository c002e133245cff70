"""Parse MMAction2's configs, which are Python code, without executing them."""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any

from farfield.untrusted_json import MAX_LEVELS


class Unreadable:
    """Placeholder for the value of an expression that cannot be read without running it."""


def parse_python_config(text: str) -> dict[str, Any]:
    """Return the values of the variables that a config assigns, by name.

    Literals, dict(...) and names assigned earlier are read; any other expression becomes an `Unreadable`. The result is
    empty if the text is not Python or nests brackets more than `MAX_LEVELS` deep.
    """
    if _exceeds_max_levels(text):
        return {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    values: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                values[target.id] = _value(statement.value, values)
    return values


def _exceeds_max_levels(text: str) -> bool:
    """Return whether brackets nest more than `MAX_LEVELS` deep.

    `ast.parse` has a limit of its own, but that depends on the Python version.
    """
    level = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP:
                level += (token.string in "([{") - (token.string in ")]}")
            if level > MAX_LEVELS:
                return True
    except (tokenize.TokenError, SyntaxError):
        pass  # `ast.parse` reports it
    return False


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id, Unreadable())
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, known) for item in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value if isinstance(node.operand.value, int | float) else Unreadable()
    if isinstance(node, ast.Dict):
        return {
            key.value: _value(item, known)
            for key, item in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {word.arg: _value(word.value, known) for word in node.keywords if word.arg is not None}
    return Unreadable()
