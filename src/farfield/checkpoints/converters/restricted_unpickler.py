"""Read any project's checkpoint without running code from it.

`torch.load(weights_only=True)` is tried first. It refuses files that hold more than tensors and plain types, such as
Caffe2's pickles of numpy arrays and MMEngine's logs. Such files are read by an unpickler that builds arrays, tensors
and plain types, and replaces every other object by an inert placeholder. The file may name any class or function, but
the unpickler imports and calls only those in `_ALLOWED`.

This module uses two private APIs, each with a test in test_private_apis.py: `pickle._Unpickler` (the unpickler written
in Python), and functions of `torch._utils` (to which pickles of tensors refer). The public unpickler, written in C, is
unsuitable: a subclass cannot override single instructions, and a large memo index in the file makes it allocate any
amount of memory.
"""

from __future__ import annotations

import io
import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from farfield.checkpoints.file_safety import UnsafePickle, check_file_safety, why_unreadable
from farfield.errors import FarfieldError

_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError,
    AssertionError, OverflowError, MemoryError, UnicodeError, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip
"""Exceptions that truncated and malformed files cause in torch, pickle and numpy."""


class Placeholder:
    """Inert replacement for an object whose class the unpickler does not allow.

    It accepts every operation that unpickling performs on an object, and does nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, item: Any) -> None: ...
    def extend(self, items: Any) -> None: ...
    def add(self, item: Any) -> None: ...


def read_file(path: str | Path) -> Any:
    """Read a checkpoint as dicts, lists, tensors, arrays and plain types. All other objects become placeholders.

    Raises:
        FarfieldError: for a file that is missing, damaged or unsafe to read.
    """
    path = Path(path)
    check_file_safety(path)
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, UnicodeError):
            return _read_restricted(path)
    except FarfieldError:
        raise
    except RecursionError as error:
        raise FarfieldError(
            f"{path} cannot be read as a checkpoint: it is nested too deeply. Copy or download the file again, or "
            "give a checkpoint."
        ) from error
    except _DAMAGED as error:
        raise FarfieldError(f"{path} cannot be read as a checkpoint: {why_unreadable(path, error)}") from error


def as_tensors(state: Any, path: str | Path) -> dict[str, Tensor]:
    """Convert the values of a state dict to tensors.

    Raises:
        FarfieldError: if there are no weights, for a key that is not text, or for a value that is not a dense tensor or
            array of real numbers.
    """
    if not isinstance(state, Mapping) or not state:
        raise FarfieldError(
            f"{path} holds no weights: found a {type(state).__name__} instead of a non-empty dict of tensors."
        )
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise FarfieldError(f"{path} has a weight named {key!r}, but names must be text.")
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")))
        if not isinstance(value, Tensor) or not _is_dense(value):
            raise FarfieldError(
                f"{path} has a value of type {type(value).__name__} for {key}, not a dense tensor of real numbers."
            )
        tensors[key] = value.detach()
    return tensors


def _is_dense(value: Tensor) -> bool:
    """Return whether a tensor is dense, real, not quantised, on the CPU, and not larger than its storage."""
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_nested:
        return False
    fits = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    return fits and not value.is_complex() and not value.is_quantized


def _read_restricted(path: Path) -> Any:
    """Read a file with the restricted unpickler."""
    if zipfile.is_zipfile(path) or _is_old_torch(path):
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle())
    with path.open("rb") as file:
        return _Unpickler(file, encoding="latin1").load()


def _is_old_torch(path: Path) -> bool:
    """Return whether a file has torch's format before version 1.6: a magic number, then a sequence of pickles."""
    with path.open("rb") as file:
        return pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:] in file.read(32)


def _reconstruct(array_type: Any, shape: Any, kind: Any) -> np.ndarray:
    """Create an empty array for the pickle to fill, as numpy's function of this name does.

    Raises:
        UnsafePickle: if `array_type` is not `numpy.ndarray`.
    """
    if array_type is not np.ndarray:
        raise UnsafePickle("it has an array whose class is not numpy.ndarray")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _encode(text: str, encoding: str) -> bytes:
    """Encode text as latin1, as unpickling Python 2's bytes requires. Refuses other encodings."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"it has text encoded as {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: np.dtype, data: Any = None) -> Any:
    """Create a numpy scalar from its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "fiub" or not isinstance(data, bytes):
        raise UnsafePickle("it has a malformed numpy number")
    return np.frombuffer(data, dtype)[0]


def _dtype(kind: Any, *args: Any) -> np.dtype:
    """Create a numpy data type."""
    dtype = np.dtype(kind, False, True)  # a copy, on which the byte order is then set
    if dtype.kind not in "fiubOSUV":
        raise UnsafePickle(f"it has values of the unsupported numpy type {dtype}")
    return dtype


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    **{
        (f"numpy.{core}.multiarray", name): made
        for core in ("core", "_core")
        for name, made in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    **{("torch", f"{kind}Storage"): getattr(torch, f"{kind}Storage") for kind in (
        "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
    )},
}  # fmt: skip


_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    """Unpickler that builds arrays, tensors and plain types, and replaces all other objects by placeholders."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _ALLOWED:
            return _ALLOWED[module_name, global_name]
        return type(str(global_name), (Placeholder,), {"__doc__": f"Placeholder for {module_name}.{global_name}."})

    def load_build(self) -> None:
        """Set an object's state. Refuses to change classes and functions: the change would persist after loading."""
        if isinstance(self.stack[-2], type | types.FunctionType | types.BuiltinFunctionType):
            raise UnsafePickle("it changes a class or a function")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _restricted_pickle() -> types.ModuleType:
    """Return a replacement for the module `pickle` that uses the restricted unpickler, for `torch.load`."""
    module = types.ModuleType("restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    module.loads = lambda data, **options: _Unpickler(io.BytesIO(data), **options).load()  # type: ignore[attr-defined]
    return module
