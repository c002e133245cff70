"""Write graphs as torch.export archives (.pt2), and read such archives without executing code from them.

`torch.export.load` unpickles entries that an archive marks as pickles, executes the archive's guards, and evaluates its
size formulas as Python. So an archive is only read if it contains nothing but what `write_pt2` writes: tensors as plain
bytes, and a graph as JSON. The graph's operators may only compute with numbers, its formulas must be arithmetic, and it
must have no guards. Everything else is refused before PyTorch reads it. PyTorch then reads a new archive of the checked
members, since PyTorch's zip reader and Python's could find different members in the same file.

Two private attributes, `ExportedProgram._guards_code` and `_example_inputs`, are cleared, since there is no public way
to save without guards and example inputs. tests/runtimes/test_torch_export_private.py fails if these attributes are
gone.
"""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from farfield.checkpoints.file_safety import check_file_safety
from farfield.errors import FarfieldError
from farfield.runtimes.metadata import KEY
from farfield.untrusted_json import parse_json

DESCRIPTION = f"{KEY}.json"
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version"
    r"|models/model\.json|extra/[\w.]+|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
)
OPERATORS = re.compile(
    r"""torch\.ops\.aten\.(
        _assert_tensor_metadata|_log_softmax|_softmax|_to_copy|abs|adaptive_avg_pool1d|adaptive_avg_pool2d|
        adaptive_avg_pool3d|add|add_|addmm|alias|amax|amin|arange|avg_pool2d|avg_pool3d|baddbmm|batch_norm|bmm|cat|
        chunk|clamp|clamp_max|clamp_min|clone|constant_pad_nd|contiguous|conv1d|conv2d|conv3d|convolution|copy_|
        cos|cumsum|detach|detach_|div|div_|dropout|einsum|eq|exp|expand|expand_as|eye|fill_|flatten|flip|
        floor_divide|full|full_like|gather|ge|gelu|gt|hardsigmoid|hardswish|hardswish_|hardtanh|hardtanh_|index|
        index_select|item|layer_norm|le|
        lift_fresh_copy|linear|linspace|log|log_softmax|logsumexp|lt|mT|masked_fill|matmul|max|max_pool1d|
        max_pool2d|max_pool3d|max_pool3d_with_indices|maximum|mean|min|minimum|mm|movedim|mul|mul_|narrow|
        native_layer_norm|ne|neg|new_zeros|ones|ones_like|pad|permute|pow|promote_types|
        reciprocal|relu|relu_|repeat|reshape|
        roll|rsqrt|rsub|scalar_tensor|scaled_dot_product_attention|select|sigmoid|sigmoid_|silu|silu_|sin|slice|softmax|
        softplus|sort|split|split_with_sizes|sqrt|squeeze|stack|sub|sub_|sum|sym_size|t|tanh|tensor_split|to|transpose|
        type_as|unbind|unflatten|unsqueeze|var|view|view_as|where|zeros|zeros_like
    )\.\w+
    |torch\.ops\.higher_order\.wrap_with_autocast
    |_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|not_|or_|pos|pow|sub|truediv)
    |math\.\w+|torch\.sym_\w+""",
    re.VERBOSE,
)
"""Operators that a graph may call. They only compute with numbers; others can access files or run code."""
FORMULA = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*")
WORDS = {
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"),
    *("PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt", "ToFloat"),
    *("Identity", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "floor", "ceiling", "Abs"),
    *("True", "False", "oo", "int_oo", "Rational", "Integer", "Float", "Add", "Mul", "Pow"),
}
"""Functions and constants of PyTorch and SymPy that size formulas may use."""
SYMBOL = re.compile(r"[suz]+\d+|\d+(e\d+)?")
NEW_SYMBOL = re.compile(r"Symbol\('[suz]+\d+'(, (positive|integer|nonnegative)=True)*\)")
CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict"}


def write_pt2(program: ExportedProgram, description: str, path: Path) -> None:
    """Write a graph and its metadata to a .pt2 file, without guards, source lines and example inputs.

    Guards would reject input sizes for which the graph is correct. Instead, the exporter compares the graph with the
    network at several sizes.
    """
    program = copy.copy(program)
    program._guards_code = []
    program._example_inputs = None
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom"):
            node.meta.pop(name, None)
    torch.export.save(program, path, extra_files={DESCRIPTION: description})


def read_pt2(path: Path) -> tuple[ExportedProgram, str | None]:
    """Read a graph and its metadata (None if there is none) without executing code from the file.

    Raises:
        FarfieldError: if the archive is damaged, or contains anything but a graph, tensors and metadata.
    """
    if not zipfile.is_zipfile(path):
        raise FarfieldError(
            f"{path} cannot be read: it is damaged, or not a torch.export archive. Export the checkpoint again."
        )
    check_file_safety(path)
    try:
        members = _checked(path)
        names = {name.partition("/")[2]: name for name in members}
        description = members.get(names.get(f"extra/{DESCRIPTION}", ""))
        return torch.export.load(_archive(members)), None if description is None else description.decode()
    except FarfieldError:
        raise
    except Exception as error:  # of any type, depending on the damage
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FarfieldError(f"{path} cannot be read: it is damaged ({reason}). Export the checkpoint again.") from error


def _archive(members: dict[str, bytes]) -> io.BytesIO:
    """Create a zip archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    buffer.seek(0)
    return buffer


def _checked(path: Path) -> dict[str, bytes]:
    """Read the members of an archive after checking that none can contain code.

    Raises:
        FarfieldError: for a member that could contain code.
    """
    with zipfile.ZipFile(path) as archive:
        if len(set(archive.namelist())) < len(archive.namelist()):
            raise _refusal(path, "it has two members with the same name")
        names = {member.partition("/")[2]: member for member in archive.namelist()}
        if len({member.partition("/")[0] for member in archive.namelist()}) != 1:
            raise _refusal(path, "it has several top-level folders")
        for name in names:
            if not MEMBERS.fullmatch(name):
                raise _refusal(path, f"it contains the file {name!r}")
        for name in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
            if name in names:
                for place, about in parse_json(archive.read(names[name]))["config"].items():
                    if about.get("use_pickle") is not False or not re.fullmatch(
                        r"(weight|tensor)_\d+", str(about["path_name"])
                    ):
                        raise _refusal(path, f"{place!r} is not a plain tensor")
        example = names.get("data/sample_inputs/model.pt")
        if example and archive.getinfo(example).file_size:  # PyTorch would unpickle it
            raise _refusal(path, "it holds example inputs")
        graph = parse_json(archive.read(names["models/model.json"]))
        if graph.get("guards_code"):
            raise _refusal(path, "its graph has guards")
        for key, value in _strings(graph):
            _check_string(key, value, path)
        return {member: archive.read(member) for member in names.values()}


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string in parsed JSON as (key, string). The strings of a list have the key of the list.

    In a graph's JSON, strings with the key "expr_str" are formulas. The keys of the dict "range_constraints" are
    formulas, too, so each of them is yielded as ("expr_str", formula).
    """
    if isinstance(value, dict):
        for name, each in value.items():
            if key == "range_constraints":
                yield "expr_str", name
            yield from _strings(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, key)
    elif isinstance(value, str):
        yield key, value


def _check_string(key: str, value: str, path: Path) -> None:
    """Check one string of a graph's JSON. The key says whether the string is an operator, a formula or a structure.

    A structure is JSON that describes how inputs or outputs are nested in containers, such as tuples. Strings with
    other keys are not checked.

    Raises:
        FarfieldError: if the operator, the formula, or a container in the structure is not allowed.
    """
    if key in ("target", "as_operator") and not OPERATORS.fullmatch(value):
        raise _refusal(path, f"its graph calls {value[:80]!r}")
    if key == "expr_str":
        formula = NEW_SYMBOL.sub("s0", value)
        words = re.findall(r"\w+", formula) if FORMULA.fullmatch(formula) else [""]
        if not all(word in WORDS or SYMBOL.fullmatch(word) for word in words):
            raise _refusal(path, f"its graph has the formula {value[:80]!r}")
    if key in ("in_spec", "out_spec", "treespec"):
        for name, kind in _strings(parse_json(value)):
            if (name == "type" and kind not in CONTAINERS) or (name == "context" and kind not in ("null", "[]")):
                raise _refusal(path, f"its graph has a container {kind[:80]!r}")


def _refusal(path: Path, what: str) -> FarfieldError:
    return FarfieldError(
        f"{path} was not read: {what}, which farfield never writes and which could run code. "
        "Export the checkpoint again."
    )
