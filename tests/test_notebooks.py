"""Every notebook runs from top to bottom, and is stored with its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_there_is_one_for_each_idea() -> None:
    assert NOTEBOOKS == [
        "1_batch_norm.ipynb",
        "2_convolution_as_matrix_product.ipynb",
        "3_global_average_pooling.ipynb",
        "4_self_attention_and_non_local.ipynb",
        "5_attention_family.ipynb",
        "6_exact_without_the_matrix.ipynb",
        "7_what_non_local_blocks_add.ipynb",
    ]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """A kernel for all notebooks: to start one and import PyTorch takes longer than most notebooks do."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.dependency
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name: str, kernel: KernelManager, tmp_path: Path) -> None:
    """In a folder of its own: a notebook needs no file but the package's, and leaves none behind.

    It prints the words that it is stored with. Names, open figures and Matplotlib's settings are as in a new kernel.
    """
    notebook = nbformat.read(FOLDER / name, as_version=4)
    start = f"import os; from matplotlib import pyplot\nos.chdir({str(tmp_path)!r})\npyplot.close('all')\n"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start + "pyplot.rcdefaults()\n%reset -f"))
    NotebookClient(notebook, timeout=120, km=kernel).execute()
    assert list(tmp_path.iterdir()) == []
    assert printed_words(notebook.cells[1:]) == printed_words(nbformat.read(FOLDER / name, as_version=4).cells)


def printed_words(cells: list[NotebookNode]) -> list[str]:
    """Return what each cell prints, without white space and numbers, which depend on the machine."""
    printed = [
        "".join(output.text for output in cell.get("outputs", []) if output.get("name") == "stdout") for cell in cells
    ]
    return [re.sub(r"[-+]?\d[\d.,e+-]*|\s+", "", text) for text in printed]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_stored_with_what_it_shows(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = cell.outputs
            assert all(output.output_type != "error" for output in outputs)
            assert cell.execution_count is not None
            assert "print(" not in cell.source or any(output.output_type == "stream" for output in outputs)
            shows = sum("image/png" in output.get("data", {}) for output in outputs)
            assert shows == cell.source.count("plt.show()")
