"""Write parts of generated pages as Markdown."""

from __future__ import annotations

import html
import posixpath
import re

from docs_site.option_help import Option

_DOCS_LINK = re.compile(r"docs/([\w/]+\.md)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w.]*\w)")
_SPHINX_ROLE = re.compile(r":(?:class|func|meth|attr|mod|paramref|ref):`+~?\.?([^`<]+?)(?: <[^`]*>)?`+")


def escape(text: str) -> str:
    """Escape the characters of plain text that Markdown or HTML would read as markup, but not text in backticks."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_\[\]{}|~^])", r"\\\1", html.escape(part, quote=False))
        for part in parts
    )


def help_text(text: str, page: str) -> str:
    """Write a help text as one Markdown paragraph: a capital at its start, a full stop, and links to pages of the docs.

    Args:
        text: the help text.
        page: path of the page below docs/, for relative links.
    """
    text = _SPHINX_ROLE.sub(r"`\1`", " ".join(text.split())).replace("``", "`")
    text = "".join(  # names of options as code, but not inside of other code
        part if part.startswith("`") else _OPTION.sub(r"`\1`", part) for part in re.split(r"(`[^`]+`)", text)
    )
    parts = _DOCS_LINK.split(text)  # every second part is the path of a page
    written = "".join(
        f"[{posixpath.splitext(posixpath.basename(part))[0].replace('_', ' ')}]({relative(part, page)})"
        if index % 2
        else escape(part)
        for index, part in enumerate(parts)
    ).strip()
    if not re.match(r"\w+[._]\w|`", written):  # not the name of something
        written = written[:1].upper() + written[1:]
    return written if not written or written[-1] in ".!?:" else written + "."


def relative(target: str, page: str) -> str:
    """Return the link from one page below docs/ to another."""
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def code(text: str) -> str:
    """Write text as inline code in a table or a paragraph."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def option_section(option: Option, page: str, *, heading: str = "###", dashes: bool = True) -> str:
    """Write an option as a section: its name as a heading, then its type and default, then its help text.

    Args:
        option: the option.
        page: path of the page below docs/.
        heading: marks of the heading.
        dashes: write the name as on the command line, not as in a config.
    """
    name = option.name if option.positional or not dashes else f"--{option.name}"
    facts = [code(option.type)] if option.type else []
    if option.required:
        facts.append("required")
    elif option.default is not None:
        facts.append(f"default {code(option.default)}")
    lines = [f"{heading} `{name}` {{ #{option.name} .option }}", ""]
    if facts:
        lines += [f'<p class="facts">{" · ".join(facts)}</p>', ""]
    return "\n".join([*lines, help_text(option.text, page), ""])


def option_row(option: Option, page: str) -> str:
    """Write an option as a row of a table with the columns key, type, default and meaning."""
    default = "required" if option.required else code(option.default) if option.default is not None else ""
    meaning = help_text(option.text, page)
    return f'| <a id="{option.name}"></a>{code(option.name)} | {code(option.type)} | {default} | {meaning} |'
