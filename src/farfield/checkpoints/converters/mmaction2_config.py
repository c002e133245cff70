"""MMAction2's configs, which are Python: read as a tree of literals, never executed."""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any

from farfield.untrusted_json import MAX_LEVELS


class Unreadable:
    """Stands for an expression that is no literal."""


def parse_python_config(text: str) -> dict[str, Any]:
    """The values that a config assigns: literals, dict(...), and names assigned before.

    What is anything else becomes an `Unreadable`; text that is no Python, or has more than `MAX_LEVELS` brackets inside
    each other, gives an empty dict.
    """
    if _is_deep(text):
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


def _is_deep(text: str) -> bool:
    """Counts brackets before `ast.parse`, whose own limits differ from one Python to the other, sees them."""
    level = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP:
                level += (token.string in "([{") - (token.string in ")]}")
            if level > MAX_LEVELS:
                return True
    except (tokenize.TokenError, SyntaxError):
        pass  # `ast.parse` will refuse it
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
