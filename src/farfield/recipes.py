"""Find the recipes that ship with farfield: YAML files for `--config`, and sweeps for `wandb sweep`.

The recipes are the files of the repository's configs/. A wheel contains copies of them in farfield/configs (see
setup.py). In a checkout of the repository, or an editable install of a checkout, configs/ is read directly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError, nearest

SUFFIX = ".yaml"


@dataclass(frozen=True)
class Recipe:
    """A YAML file that ships with farfield.

    Attributes:
        name: path below configs/ without the suffix, e.g. `figures_tiny_nl2` or `sweeps/figures_lr`.
        path: path of the file.
    """

    name: str
    path: Path

    @property
    def is_sweep(self) -> bool:
        """Return whether the recipe is a sweep for `wandb sweep`; otherwise it is a config for `--config`."""
        return self.name.startswith("sweeps/")

    @property
    def text(self) -> str:
        """Return the content of the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def summary(self) -> str:
        """Return the recipe's description: the first line of its header comment."""
        return self.text.partition("\n")[0].removeprefix("#").strip()


def list_recipes() -> list[Recipe]:
    """List the shipped recipes by name, sweeps last.

    Raises:
        FarfieldError: if this installation has no recipes.
    """
    folder = _folder()
    found = [
        Recipe(path.relative_to(folder).with_suffix("").as_posix(), path) for path in folder.rglob(f"*{SUFFIX}")
    ]  # fmt: skip
    return sorted(found, key=lambda recipe: (recipe.is_sweep, recipe.name))


def find_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises:
        FarfieldError: for an unknown name; the message suggests the nearest name.
    """
    recipes = {recipe.name: recipe for recipe in list_recipes()}
    if name not in recipes:
        raise FarfieldError(f"there is no recipe {name!r}. {nearest(_stem(name), recipes)}")
    return recipes[name]


def copy_recipe(recipe: Recipe, to: str) -> Path:
    """Copy a recipe to a new file, and return the path of the copy.

    Args:
        recipe: recipe to copy.
        to: path of the new file, or of a folder in which the new file gets the recipe's own file name. A path that does
            not exist counts as a folder if it ends with a slash.

    Raises:
        FarfieldError: if the file exists already, or cannot be written.
    """
    target = Path(to)
    if target.is_dir() or to.endswith(("/", os.sep)):
        target = target / recipe.path.name
    if target.exists():
        raise FarfieldError(f"{target} exists already. Give --copy another file or folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            partial.write_text(recipe.text, encoding="utf-8")
    except OSError as error:
        raise FarfieldError(
            f"{target} cannot be written: {error.strerror}. Give --copy another file or folder."
        ) from error
    return target


def find_config(given: str) -> str:
    """Resolve a value of `--config`.

    The name of a recipe becomes the path of its file. The path of an existing file, and YAML text, are returned
    unchanged.

    Raises:
        FarfieldError: for any other value; the message suggests the nearest recipe.
    """
    if _is_yaml_mapping(given) or _is_file(given):
        return given
    recipes = {recipe.name: recipe for recipe in list_recipes() if not recipe.is_sweep}
    if given in recipes:
        return str(recipes[given].path)
    raise FarfieldError(
        f"config is {given!r}, which is neither a file nor a recipe. {nearest(_stem(given), recipes)} "
        "`farfield configs` lists all recipes."
    )


def _folder() -> Path:
    """Return the folder of the recipes, in the package or in a checkout of the repository."""
    package = Path(str(files("farfield")))
    checkout = package.parents[1]
    if (package / "configs").is_dir():
        return package / "configs"
    if (checkout / "pyproject.toml").is_file() and (checkout / "configs").is_dir():
        return checkout / "configs"
    raise FarfieldError(
        f"this installation of farfield has no recipes: {package / 'configs'} does not exist. Reinstall farfield, or "
        "give --config a file."
    )


def _is_yaml_mapping(given: str) -> bool:
    try:
        return isinstance(yaml.safe_load(given), dict)
    except yaml.YAMLError:
        return False


def _is_file(given: str) -> bool:
    """Return whether a path can be read as a file: a regular file, a link to one, or a pipe such as `<(...)`."""
    try:
        return Path(given).exists() and not Path(given).is_dir()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False


def _stem(given: str) -> str:
    """Remove the folder configs/ and the suffix from a path, to compare the rest with the names of recipes."""
    return given.removesuffix(SUFFIX).removeprefix("configs/")
