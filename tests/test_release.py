"""Version, changelog and citation of a release agree; entries of the changelog stay short."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()


def test_changelog_and_citation_are_of_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    released = re.findall(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
    assert released[0] == (version, citation["date-released"])
    assert citation["version"] == version


def test_changelog_is_grouped_with_one_short_line_an_entry() -> None:
    kinds = set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Fixed", "Removed", "Security"}
    after_introduction = CHANGELOG[CHANGELOG.index("\n## ") :]
    others = [line for line in after_introduction.splitlines() if line and not line.startswith(("#", "- "))]
    assert others == []
    assert [line for line in CHANGELOG.splitlines() if len(line) > 160] == []


def test_changelog_links_to_files_that_exist() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", CHANGELOG)
    assert len(linked) > 30
    assert [name for name in linked if not (REPOSITORY / name).is_file()] == []
