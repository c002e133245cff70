"""Hook of MkDocs: add generated pages to the site, list them in the navigation, and show formulas as MathML.

In `nav` of mkdocs.yml, an entry that ends with a slash stands for the generated pages of that folder.
"""

from __future__ import annotations

import re
from typing import Any

from docs_site.command_pages import command_pages
from docs_site.config_pages import config_pages
from docs_site.formulas import formulas_to_mathml, formulas_to_text
from docs_site.notebook_pages import notebook_pages
from docs_site.python_pages import python_pages
from docs_site.recipe_page import recipe_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_PAGES: dict[str, str | bytes] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write the generated pages, once, and put them into the navigation."""
    if not _PAGES:
        for pages in (command_pages, config_pages, recipe_pages, python_pages, notebook_pages):
            _PAGES.update(pages())
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site."""
    for path, content in _PAGES.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Replace formulas by MathML, those of the table of contents by text, and mark options such as `--out`."""
    entries = list(page.toc)
    for entry in entries:
        entry.title = formulas_to_text(entry.title)
        entries += entry.children
    return re.sub(r"<code>(--[^<\s]{1,32})</code>", r'<code class="flag">\1</code>', formulas_to_mathml(html))


def _expanded(nav: Any) -> Any:
    """Replace each folder in the navigation by the list of its generated pages, and folders in it by sections."""
    if isinstance(nav, list):
        return [_expanded(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: _expanded(entry) for title, entry in nav.items()}
    if isinstance(nav, str) and nav.endswith("/"):
        pages = [path for path in _PAGES if path.startswith(nav) and path.endswith(".md")]
        folders = {path.removeprefix(nav).partition("/")[0] for path in pages if "/" in path.removeprefix(nav)}
        here = [path for path in pages if "/" not in path.removeprefix(nav)]
        return [*here, *({folder.capitalize(): _expanded(f"{nav}{folder}/")} for folder in sorted(folders))]
    return nav
