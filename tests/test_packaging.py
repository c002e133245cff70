"""Recipes and templates from a wheel, an sdist and editable installs, each in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from packaging.version import Version

from farfield.recipes import list_recipes
from test_startup import NEEDED, output_and_imports

pytestmark = [pytest.mark.slow, pytest.mark.dependency]
REPOSITORY = Path(__file__).parents[1]
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("src", "configs")
"""Contents of an sdist: without the tests, which need scripts/, docs/ and notebooks/."""
HOOK = "import sys, json, setuptools.build_meta as b; getattr(b, sys.argv[1])(sys.argv[2], json.loads(sys.argv[3]))"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the repository's build reads, without what earlier builds left there."""
    folder = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder)
    for name in (*FOLDERS, "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel_of_sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from an unpacked sdist."""
    out = tmp_path_factory.mktemp("sdist")
    _build("build_sdist", out, source)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        contents = {name.split("/")[1] for name in archive.getnames() if "/" in name}
        assert contents == {*FILES, *FOLDERS, "PKG-INFO", "setup.cfg"}
        archive.extractall(out / "unpacked", filter="data")
    _build("build_wheel", out, next((out / "unpacked").iterdir()))
    return next(out.glob("*.whl"))


@pytest.fixture(params=["sdist", "editable", "strict editable"])
def installed(request: pytest.FixtureRequest, source: Path, wheel_of_sdist: Path, tmp_path: Path) -> tuple[str, Path]:
    """How farfield is installed, and the environment in which it is."""
    if request.param == "sdist":
        return request.param, _install(wheel_of_sdist, tmp_path / "environment")
    out = tmp_path / "built"
    out.mkdir()
    _build("build_editable", out, source, {"editable_mode": "strict"} if request.param.startswith("strict") else {})
    return request.param, _install(next(out.glob("*.whl")), tmp_path / "environment")


def _build(hook: str, out: Path, source: Path, settings: dict[str, str] | None = None) -> None:
    """Calls the build backend as pip does, but with the setuptools that is here: no network is needed."""
    words = [hook, out, json.dumps(settings or {})]
    subprocess.run([sys.executable, "-c", HOOK, *words], cwd=source, env=_clean(), check=True)


def _install(wheel: Path, environment: Path) -> Path:
    """Installs into a new environment, which afterwards sees the dependencies of the one that runs the tests."""
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], env=_clean(), check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    here = sysconfig.get_paths()  # its own .pth files, as of an editable farfield, are not read from there
    (packages / "dependencies.pth").write_text(f"{here['purelib']}\n{here['platlib']}\n")
    return environment


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _modules(package: Path) -> set[Path]:
    return {path.relative_to(package) for path in package.rglob("*.py")}


def _check_description(metadata: str) -> None:
    """Check the text for a package index, on whose page the repository's pictures and files are not."""
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    text = metadata.partition("\n\n")[2]
    assert "# farfield" in text
    assert "## Measured" in text
    assert "![" not in text
    assert "<!--" not in text.replace("<!-- needs: hours -->", "")
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert not [link for link in links if not link.startswith("https://")]


def test_a_wheel_of_the_repository_is_that_of_the_sdist(source: Path, wheel_of_sdist: Path, tmp_path: Path) -> None:
    """So what is installed from an sdist below is also what a wheel of the repository installs."""
    _build("build_wheel", tmp_path, source)
    ours, theirs = (
        {each.filename: each.CRC for each in ZipFile(wheel).infolist()}
        for wheel in (next(tmp_path.glob("*.whl")), wheel_of_sdist)
    )
    assert ours == theirs


@pytest.mark.slow
def test_recipes_and_templates_are_found(installed: tuple[str, Path], source: Path, tmp_path: Path) -> None:
    how, environment = installed
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words: str) -> str:
        command = [environment / "bin" / words[0], *words[1:]]
        return subprocess.run(command, cwd=elsewhere, env=_clean(), check=True, capture_output=True, text=True).stdout

    code = """
import json, farfield
from farfield.recipes import find_config
from farfield.reports.page_fragments import note_html
from farfield.reports.rendering import html_environment

print(json.dumps([farfield.__file__, html_environment().list_templates(), note_html("a < b"),
                  find_config("figures_tiny_nl2")]))
"""
    (metadata,) = environment.glob("lib/python*/site-packages/farfield-*.dist-info/METADATA")
    _check_description(metadata.read_text(encoding="utf-8"))
    package, found, note, config = json.loads(run("python", "-c", code))
    assert Path(package).is_relative_to(source if "editable" in how else environment)
    assert _modules(Path(package).parent) == _modules(REPOSITORY / "src/farfield")
    assert found == sorted(path.name for path in (REPOSITORY / "src/farfield/reports/templates").iterdir())
    assert "a &lt; b" in note
    listed: list[dict[str, Any]] = json.loads(run("farfield", "configs", "--json"))
    assert [each["name"] for each in listed] == [recipe.name for recipe in list_recipes()]
    for each in listed:
        if "editable" not in how:
            assert Path(each["path"]).is_relative_to(environment)
        assert Path(each["path"]).read_text() == (REPOSITORY / "configs" / f"{each['name']}.yaml").read_text()
    assert Path(config) == next(Path(each["path"]) for each in listed if each["name"] == "figures_tiny_nl2")
    if how == "sdist":  # what can lack most; fit imports for seconds
        words = ("fit", "--config", "figures_tiny_nl2", "--print_config")
        python = environment / "bin/python"
        shown, imported = output_and_imports(*words, python=python, cwd=elsewhere, env=_clean())
        assert yaml.safe_load(shown)["model"]["insert"] == {"res3": [1], "res4": [1]}
        of_older = {"sklearn"} if Version(version("transformers")) < Version("5.24") else set()
        assert imported <= NEEDED["fit"] | of_older  # more than its help imports, in a new process
