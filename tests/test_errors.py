"""Error messages."""

from __future__ import annotations

import pickle

import pytest
from torch.utils.data import DataLoader, Dataset

from farfield.errors import FarfieldError, nearest


def test_nearest() -> None:
    assert nearest("tinny", ["tiny", "slow"]) == "Known: tiny, slow. Did you mean 'tiny'?"
    assert nearest("x", ["tiny", "slow"]) == "Known: tiny, slow."
    assert nearest("x", []) == "There are none."
    assert nearest("class 7", [f"class {i}" for i in range(40)]) == "Did you mean 'class 7'?"


class Refusing(Dataset[int]):
    """A data set of one item, which cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise FarfieldError("a.mp4 is empty: 0 bytes.\nCopy the file again.")


@pytest.mark.slow
def test_an_error_of_a_loaders_worker_has_the_message_alone() -> None:
    with pytest.raises(FarfieldError) as caught:
        next(iter(DataLoader(Refusing(), num_workers=1)))
    assert str(caught.value) == "a.mp4 is empty: 0 bytes.\nCopy the file again."
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
