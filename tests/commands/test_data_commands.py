"""The data commands take options and help from the functions that they run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from farfield.curation.download import download
from farfield.curation.index import index_videos
from farfield.curation.prepare import prepare
from farfield.curation.split import split
from farfield.curation.subset import write_subset
from farfield.curation.verify import verify
from farfield.synthetic.synthesize import synthesize

FUNCTIONS: dict[str, tuple[Callable[..., object], set[str]]] = {
    "index": (index_videos, set()),
    "subset": (write_subset, {"json"}),
    "split": (split, {"json"}),
    "download": (download, {"json"}),
    "prepare": (prepare, {"json"}),
    "verify": (verify, {"json"}),
    "synthesize": (synthesize, set()),
}
"""Command to its function, and the options that it adds."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_and_help_are_those_of_the_function(
    name: str, run_farfield: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        run_farfield("data", name, "--help")
    shown = capsys.readouterr().out
    function, added = FUNCTIONS[name]
    options = set(re.findall(r"^  --(\w+)[ ,]", shown, re.MULTILINE)) - {"help"}
    positionals = set(re.findall(r"^  (\w+) ", shown.partition("positional arguments:")[2], re.MULTILINE))
    if name == "synthesize":  # its task is shown by its choices
        positionals.add("task")
    assert options | positionals == set(inspect.signature(function).parameters) - {"progress"} | added
    first_line = (function.__doc__ or "").splitlines()[0]
    assert first_line in shown
    assert "None" not in shown
    assert "Path" not in shown.replace("Path to a configuration file", "")
