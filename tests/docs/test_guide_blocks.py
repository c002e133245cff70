"""The code blocks of docs/guides/ run as those of the other pages, see test_code_blocks.py.

In a file of their own: pytest-xdist gives each file to one process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.markdown_blocks import pages
from docs.test_code_blocks import GUIDES, _torch_as_before, run_page, shared_files  # noqa: F401  # fixtures


@pytest.mark.slow
@pytest.mark.parametrize("page", [each for each in pages() if each.startswith(GUIDES)])
def test_blocks_run(page: str, shared_files: Path, tmp_path: Path) -> None:  # noqa: F811  # a fixture
    run_page(page, shared_files, tmp_path)
