"""Reads a checkpoint of any project without running code from it.

`torch.load(weights_only=True)` comes first. It refuses what holds more than tensors and plain types: Caffe2's pickles
of numpy arrays, MMEngine's logs. Those go through an unpickler that makes arrays and tensors, and an inert
placeholder of every other class that the file names: nothing is imported, nothing is called.
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
"""What torch, pickle and numpy raise for files that are cut off or made up."""


class Placeholder:
    """Stands for an object of a class that is not made: it takes whatever a pickle does to it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, item: Any) -> None: ...
    def extend(self, items: Any) -> None: ...
    def add(self, item: Any) -> None: ...


def read_file(path: str | Path) -> Any:
    """Returns a checkpoint's content: dicts, lists, tensors, arrays, plain types, and placeholders for the rest.

    Raises:
        FarfieldError: for a file that is missing, damaged, or made to fill the memory.
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
        raise FarfieldError(f"{path} cannot be read as a checkpoint: it is nested too deeply.") from error
    except _DAMAGED as error:
        raise FarfieldError(f"{path} cannot be read as a checkpoint: {why_unreadable(path, error)}") from error


def as_tensors(state: Any, path: str | Path) -> dict[str, Tensor]:
    """A state dict whose values are all numbers.

    Raises:
        FarfieldError: for keys that are no text, or values that are no numeric tensors or arrays.
    """
    if not isinstance(state, Mapping) or not state:
        raise FarfieldError(f"{path} holds no weights: {type(state).__name__} where a dict of tensors is needed.")
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise FarfieldError(f"{path} has a weight that is named {key!r}; names are text.")
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")))
        if not isinstance(value, Tensor) or not _is_plain(value):
            raise FarfieldError(f"{path} has {type(value).__name__} in place of the weight {key}.")
        tensors[key] = value.detach()
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Numbers that are all there: a view may say to be larger than what it is a view of."""
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_nested:
        return False
    whole = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    return whole and not value.is_complex() and not value.is_quantized


def _read_restricted(path: Path) -> Any:
    if zipfile.is_zipfile(path) or _is_old_torch(path):
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle())
    with path.open("rb") as file:
        return _Unpickler(file, encoding="latin1").load()


def _is_old_torch(path: Path) -> bool:
    """Whether torch wrote it before 1.6: pickles one after the other, the first a number."""
    with path.open("rb") as file:
        return pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:] in file.read(32)


def _reconstruct(array_type: Any, shape: Any, kind: Any) -> np.ndarray:
    """numpy's beginning of an array, which a pickle then fills; of arrays alone."""
    if array_type is not np.ndarray:
        raise UnsafePickle("it has an array of a class that is not numpy's own")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _encode(text: str, encoding: str) -> bytes:
    """How Python 2's bytes come back; no other codec."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"it has text encoded as {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: np.dtype, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "fiub" or not isinstance(data, bytes):
        raise UnsafePickle("it has a numpy number that is none")
    return np.frombuffer(data, dtype)[0]


def _dtype(kind: Any, *args: Any) -> np.dtype:
    dtype = np.dtype(kind, False, True)  # a copy, on which the byte order is then set
    if dtype.kind not in "fiubOSUV":
        raise UnsafePickle(f"it has values of numpy's type {dtype}")
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


_InPython: Any = pickle._Unpickler  # whose steps can be checked


class _Unpickler(_InPython):
    """Makes arrays, tensors and plain types, and placeholders of everything else that a file names."""

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _ALLOWED:
            return _ALLOWED[module_name, global_name]
        return type(str(global_name), (Placeholder,), {"__doc__": f"In place of {module_name}.{global_name}."})

    def load_build(self) -> None:
        """Fills an object; a class or a function is none, and would stay changed after the file is gone."""
        if isinstance(self.stack[-2], type | types.FunctionType | types.BuiltinFunctionType):
            raise UnsafePickle("it changes a class or a function")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _restricted_pickle() -> types.ModuleType:
    """What `torch.load` takes for pickle."""
    module = types.ModuleType("restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    module.loads = lambda data, **options: _Unpickler(io.BytesIO(data), **options).load()  # type: ignore[attr-defined]
    return module
