"""Every notebook runs from top to bottom, and is stored with its pictures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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


@pytest.mark.slow
@pytest.mark.dependency
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name: str, tmp_path: Path) -> None:
    """In a folder of its own: a notebook needs no file but the package's, and leaves none behind."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert list(tmp_path.iterdir()) == []


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
