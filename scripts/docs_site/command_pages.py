"""One page for each command, from its parser."""

from __future__ import annotations

from inspect import cleandoc

from docs_site.markdown import escape, help_text, option_section
from docs_site.option_help import Help, read_help
from farfield.cli import COMMANDS

FOLDER = "reference/commands"


def command_page(name: str) -> str:
    """Return the path of a command's page below docs/."""
    return f"{FOLDER}/{name.replace(' ', '_')}.md"


def command_pages() -> dict[str, str]:
    """Write the pages of all commands, and a page that lists them. Return Markdown by path below docs/."""
    return {f"{FOLDER}/index.md": _index()} | {command_page(name): _page(name, read_help(name)) for name in COMMANDS}


def _index() -> str:
    rows = [
        f"| [`farfield {name}`]({command_page(name).removeprefix(FOLDER + '/')}) | {escape(command.summary)} |"
        for name, command in COMMANDS.items()
    ]
    introduction = cleandoc("""
        # Commands

        `farfield COMMAND --help` prints the same text as these pages.

        - Give options as `--name value` or `--name=value`. A flag such as `--json` needs no value.
        - Write `null` where these pages say `null`.
        - Words after an option that takes a list are its values, so put files before it.
        - Write `./-name.mp4` for a file whose name starts with `-`.
        - `--offline` downloads no model from huggingface.co. Every command takes it.

        Exit status: 0 for success, 1 if some videos failed, 2 for a mistake that you can mend, 130 for Ctrl-C.
        """)
    return "\n".join([introduction, "", "| command | what it does |", "|---|---|", *rows, ""])


def _page(name: str, content: Help) -> str:
    page = command_page(name)
    lines = [
        f"# farfield {name}",
        "",
        help_text(content.description, page),
        "",
        "```text",
        _usage(name, content),
        "```",
        "",
    ]
    positionals = [option for option in content.options if option.positional]
    options = [option for option in content.options if not option.positional]
    if name == "fit":
        options = [option for option in options if "." not in option.name]
    required = [option for option in options if option.required]
    optional = [option for option in options if not option.required]
    for title, group in (("Arguments", positionals), ("Required options", required), ("Options", optional)):
        if group:
            lines += [f"## {title}", "", *(option_section(option, page) for option in group)]
    if name == "fit":
        lines += [
            "## Keys of the config",
            "",
            "Every key of a config is an option, too: `--model.backbone i3d_r50`. [Config keys](../config/index.md) "
            "lists them all.",
            "",
        ]
    return "\n".join(lines)


def _usage(name: str, content: Help) -> str:
    """Write the usage with required words only, since the options follow one by one."""
    if name == "fit":  # whose required options can be in the config
        return "farfield fit --config CONFIG [options]"
    forms = {None: "{0}", "+": "{0} [{0} ...]", "?": "[{0}]"}
    words = [forms[nargs].format(word.upper()) for word, nargs in COMMANDS[name].positionals.items()]
    words += [
        f"--{option.name} {option.name.rpartition('.')[2].upper()}"
        for option in content.options
        if option.required and not option.positional
    ]
    return " ".join(["farfield", name, *words, "[options]"])
