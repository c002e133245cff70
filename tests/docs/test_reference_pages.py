"""The reference pages name every column, file, field and preset of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from docs.markdown_blocks import REPOSITORY
from docs.test_code_blocks import shared_files  # noqa: F401  # a fixture
from farfield.clip_spec import ClipSpec
from farfield.data.video_record import COLUMNS
from farfield.models.backbones import BACKBONES
from farfield.models.head_kinds import HeadKind
from farfield.models.insertion import BLOCKS, PRESETS
from farfield.models.network_options import NetworkOptions
from farfield.recipes import list_recipes
from farfield.training.run_folder import RunFiles

PAGES = {
    "reference/manifest.md": COLUMNS,
    "reference/run_folder.md": (*RunFiles.EPOCH_COLUMNS, *RunFiles.STEP_COLUMNS),
    "reference/checkpoint.md": tuple(field.name for each in (NetworkOptions, ClipSpec) for field in fields(each)),
    "reference/layers.md": tuple(BLOCKS),
    "reference/networks.md": (*BACKBONES, *PRESETS, *get_args(HeadKind)),
    "guides/training.md": tuple(recipe.name for recipe in list_recipes() if "/" not in recipe.name),
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_everything(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text()
    assert not [name for name in PAGES[page] if f"`{name}`" not in text]


@pytest.mark.parametrize("section", ["coming_from", "explanations", "guides", "reference"])
def test_the_index_of_a_section_lists_its_pages(section: str) -> None:
    folder = REPOSITORY / "docs" / section
    listed = re.findall(r"^\| \[.+?\]\((\w+\.md)\) \|", (folder / "index.md").read_text(), re.M)
    assert {path.name for path in folder.glob("*.md")} - {"index.md"} - set(listed) == set()


@pytest.mark.slow
def test_the_page_of_the_run_folder_names_every_file(shared_files: Path) -> None:  # noqa: F811
    text = (REPOSITORY / "docs/reference/run_folder.md").read_text()
    files = [path for path in (shared_files / "runs/mine").rglob("*") if path.is_file() and path.name[0] != "."]
    assert len(files) > 12
    assert not [path.name for path in files if path.name not in text]
