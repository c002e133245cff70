"""Every annotation format can be found: in the documentation, and by its options."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.registry import FORMATS, FormatName

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "annotation_formats.md"


def test_the_page_lists_every_format_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)`([^\n]*)$", PAGE.read_text().partition("|---")[2], re.MULTILINE))
    assert set(rows) == set(FORMATS) == set(get_args(FormatName))
    for name, about in FORMATS.items():
        assert set(re.findall(r"--(\w+)", rows[name])) == about.options, name


def test_options_are_fields_of_the_source() -> None:
    known = {field.name for field in fields(AnnotationSource)}
    assert all(about.options <= known for about in FORMATS.values())
