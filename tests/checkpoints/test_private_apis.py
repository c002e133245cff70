"""Private names of other libraries that checkpoints are read with still exist and mean the same."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import pytest
import torch

from farfield.checkpoints.converters.pytorchvideo_and_torchvision import PYTORCHVIDEO
from farfield.checkpoints.pretrained import _pytorchvideo_url


def test_pickle_unpickler_in_python_calls_its_subclass_for_each_instruction() -> None:
    base: Any = pickle._Unpickler
    seen = []

    class Unpickler(base):
        dispatch: ClassVar[dict[int, Any]] = dict(base.dispatch)

        def load_build(self) -> None:
            seen.append(self.stack[-2])
            super().load_build()

        dispatch[pickle.BUILD[0]] = load_build

    error = ValueError("text")
    error.note = "state"  # type: ignore[attr-defined]  # a BUILD instruction sets it
    assert Unpickler(io.BytesIO(pickle.dumps(error, protocol=2))).load().note == "state"
    assert isinstance(seen[0], ValueError)


@pytest.mark.parametrize("name", ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"])
def test_torch_utils_functions_that_pickled_tensors_name_exist(name: str) -> None:
    assert callable(getattr(torch._utils, name))


@pytest.mark.parametrize("backbone", PYTORCHVIDEO)
def test_pytorchvideo_hub_lists_the_addresses_of_its_checkpoints(backbone: str) -> None:
    assert _pytorchvideo_url(backbone).endswith((".pyth", ".pth"))
