"""`farfield configs`: list the recipes (configs) that ship with farfield, print one, or copy one."""

from __future__ import annotations

import json as json_format

from farfield.errors import FarfieldError
from farfield.recipes import Recipe, copy_recipe, find_recipe, list_recipes


def configs(name: str | None = None, *, copy: str | None = None, json: bool = False) -> int:
    """List the recipes (configs) that ship with farfield, print one, or copy one to edit it.

    To train with a recipe, run `farfield fit --config NAME`. Recipes whose names start with sweeps/ are for `wandb
    sweep`: copy them first, because it needs a file.

    Args:
        name: name of a recipe; without a name, or with `list`, all recipes are listed.
        copy: folder, or new file, to copy the recipe to.
        json: print JSON: the name, summary and path of each listed recipe. For a named recipe, its name, summary and
            path, and also its text or, with copy, the path of the copy.
    """
    if name is None or name == "list":
        if copy is not None:
            raise FarfieldError(
                f"--copy needs the name of a recipe to copy. Give it: farfield configs NAME --copy {copy}."
            )
        return _print_list(list_recipes(), json=json)
    recipe = find_recipe(name)
    if copy is not None:
        copied = copy_recipe(recipe, copy)
        print(json_format.dumps(_about(recipe) | {"copy": str(copied)}, indent=2) if json else copied)
    elif json:
        print(json_format.dumps(_about(recipe) | {"text": recipe.text}, indent=2))
    else:
        print(recipe.text, end="")
    return 0


def _print_list(recipes: list[Recipe], *, json: bool) -> int:
    if json:
        print(json_format.dumps([_about(recipe) for recipe in recipes], indent=2))
        return 0
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        print(f"{recipe.name:<{width}}  {recipe.summary}")
    print("\nfarfield configs NAME prints one; farfield fit --config NAME trains with it.")
    return 0


def _about(recipe: Recipe) -> dict[str, str]:
    return {"name": recipe.name, "summary": recipe.summary, "path": str(recipe.path)}
