"""The code blocks of README.md and docs/ run, page by page. What the text names: test_inline_code.py.

The `bash` and `python` blocks of a page run in order in a folder of its own with generated videos (page_folder.py).
Python names persist over a page; each bash block is a new shell.

- `farfield` and `python scripts/...` run in this process (bash_blocks.py). `farfield fit` and `farfield.train` resolve
  the config and build its network without memory, and then train for one step on small clips. The network is `tiny`
  with one block a stage, weights that are not a file of the page are left out, and a run of the page's folder in the
  place of `--run_dir` is removed first. `farfield data synthesize` makes few videos, unless it is told how many; of
  `untrimmed`, it copies short ones that all pages share (page_folder.make_untrimmed). `farfield serve` does not
  end and is only parsed, and so are the options of scripts that measure (tests/scripts).
- `pip install` installs nothing: the extras must exist.
- A comment before a block, such as `<!-- needs: gpu -->`, says what a test does not have (markdown_blocks.NEEDS).
  Commands of such a block are parsed by their own parsers, configs are resolved and their networks built without
  memory; Python is compiled, and what it takes from farfield must exist. `<!-- not ours -->` is not checked.
- `yaml` that is a config is parsed like one, other `yaml` and `json` must be valid.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from docs.bash_blocks import Failure, run_bash
from docs.markdown_blocks import REPOSITORY, Block, blocks, pages
from docs.page_folder import copy_to, make_shared
from docs.python_blocks import check_python, run_python
from docs.run_commands import parse_command, parse_fit, run_command, small_trainings
from shared import made_once

CONFIG_KEYS = {"model", "data", "trainer", "run_dir", "probe", "monitor", "wandb", "report"}


@pytest.fixture(scope="session")
def shared_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every page's folder."""
    return made_once(tmp_path_factory, "docs_pages", make_shared)


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run_block(block: Block, folder: Path, names: dict[str, Any]) -> Failure | None:
    """Run or check a block; return what failed."""
    if not block.ours:
        return None
    if block.language == "bash":
        return run_bash(block, folder, parse_command if block.needs else run_command)
    if block.language == "python":
        return check_python(block) if block.needs else run_python(block, folder, names)
    if block.language in ("yaml", "json"):
        return check_data(block, folder)
    return None


def check_data(block: Block, folder: Path) -> Failure | None:
    """Check that YAML or JSON is valid, and that a config is one."""
    try:
        if block.language == "json":
            json.loads(block.code)
            return None
        content = yaml.safe_load(block.code)
    except ValueError as error:
        return Failure(block.place, str(error))
    except yaml.YAMLError as error:
        return Failure(block.place, str(error))
    if not isinstance(content, dict) or not content.keys() & CONFIG_KEYS:
        return None
    file, output = folder / "block.yaml", io.StringIO()
    file.write_text(block.code)
    with contextlib.chdir(folder), contextlib.redirect_stderr(output):
        status = parse_fit(["--config=figures_tiny_nl2", f"--config={file}"])
    return Failure(block.place, output.getvalue()) if status else None


GUIDES = "docs/guides/"
"""Folder of the pages that test_guide_blocks.py runs."""
TRANSLATIONS = {"README.zh.md": "README.md"}
"""Pages whose commands are those of another page."""


@pytest.mark.parametrize(("page", "original"), TRANSLATIONS.items())
def test_a_translation_has_the_same_blocks(page: str, original: str) -> None:
    """Comments are translated, too. So the blocks need not run again."""
    ours, theirs = (
        [(each.language, each.needs, each.ours, re.sub(r" +#.*", "", each.code)) for each in blocks(name)]
        for name in (page, original)
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("page", [each for each in pages() if not each.startswith(GUIDES) and each not in TRANSLATIONS])
def test_blocks_run(page: str, shared_files: Path, tmp_path: Path) -> None:
    run_page(page, shared_files, tmp_path)


def run_page(page: str, shared_files: Path, tmp_path: Path) -> None:
    """Run or check all blocks of a page."""
    folder = copy_to(shared_files, tmp_path / "page", scripts=REPOSITORY / "scripts")
    names: dict[str, Any] = {"__name__": "__main__"}
    with small_trainings():
        failures = [run_block(block, folder, names) for block in blocks(page)]
    if found := [str(each) for each in failures if each is not None]:
        pytest.fail("\n\n".join(found), pytrace=False)
