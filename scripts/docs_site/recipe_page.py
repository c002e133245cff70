"""The page of the recipes that ship with farfield."""

from __future__ import annotations

from inspect import cleandoc

from docs_site.markdown import escape
from farfield.recipes import Recipe, list_recipes

PAGE = "reference/recipes.md"


def recipe_pages() -> dict[str, str]:
    """Write the page of all recipes. Return Markdown by path below docs/."""
    recipes = list_recipes()
    rows = [f"| [`{recipe.name}`](#{_anchor(recipe)}) | {escape(recipe.summary)} |" for recipe in recipes]
    introduction = cleandoc("""
        # Recipes

        A recipe is a config of one run that ships with farfield. Its header says what it trains, what to expect, and
        where these figures come from.

        ```bash
        farfield configs                                              # list them
        farfield configs ucf101                                       # print one
        farfield configs figures_tiny_nl2 --copy mine.yaml            # copy one, to change it
        ```

        `farfield fit --config NAME` trains a recipe. Those below `sweeps/` are for `wandb sweep`.
        """)
    sections = [
        f"## {recipe.name} {{ #{_anchor(recipe)} }}\n\n```yaml\n{recipe.text.rstrip()}\n```\n" for recipe in recipes
    ]
    return {PAGE: "\n".join([introduction, "", "| recipe | what it trains |", "|---|---|", *rows, "", *sections])}


def _anchor(recipe: Recipe) -> str:
    return recipe.name.replace("/", "-")
