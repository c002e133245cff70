"""Pages of the keys of a config of `farfield fit`, from its parser."""

from __future__ import annotations

import dataclasses
import re
from inspect import cleandoc

from docs_site.markdown import option_row, option_section
from docs_site.option_help import Option, read_help
from farfield.clip_spec import ClipSpec

FOLDER = "reference/config"


@dataclasses.dataclass(frozen=True)
class Group:
    """Keys of a page.

    Attributes:
        file: name of the page's file without suffix.
        title: title of the page.
        prefixes: beginnings of the keys, in the order of the page's sections, each with the section's title; None for
            keys without a group. A key belongs to the longest prefix.
        introduction: Markdown before the keys.
    """

    file: str
    title: str
    prefixes: dict[str | None, str]
    introduction: str


GROUPS = [
    Group(
        "run",
        "Run, tracking and report",
        {None: "Run", "wandb": "wandb", "report": "report", "probe": "probe"},
        "Where a run writes, which epoch is the best, and what is logged.",
    ),
    Group(
        "model",
        "Network and optimisation",
        {
            "model": "model",
            "model.clip": "model.clip",
            "model.optimisation": "model.optimisation",
            "model.execution": "model.execution",
            "model.loss": "model.loss",
        },
        "The network, the blocks in it, its input, the loss and the optimiser.",
    ),
    Group(
        "data",
        "Data and augmentation",
        {"data": "data", "data.augmentation": "data.augmentation"},
        "Manifests, loading and augmentation. The input size and the frames of a clip are keys of "
        "[`model.clip`](model.md#modelclip).",
    ),
    Group(
        "trainer",
        "Trainer",
        {"trainer": "trainer"},
        "Keys of Lightning's `Trainer`, with Lightning's own help. farfield sets its own logger, callbacks for "
        "checkpoints, and samplers; `trainer.logger` and `trainer.overfit_batches` are refused.",
    ),
]
_IN_TABLE = {"trainer"}
"""Sections that are written as a compact table."""
_NOT_KEYS = {"config", "print_config"}


def config_pages() -> dict[str, str]:
    """Write the pages of all keys, and a page that lists them. Return Markdown by path below docs/."""
    keys = config_keys()
    return {f"{FOLDER}/index.md": _index(keys)} | {f"{FOLDER}/{group.file}.md": _page(group, keys) for group in GROUPS}


def config_keys() -> list[Option]:
    """Return every key of a config, the keys of model.clip and probe included."""
    keys = [option for option in read_help("fit").options if option.name not in _NOT_KEYS]
    return keys + _clip_keys() + read_help("fit", "--probe.help").options


def section_of(key: str) -> str | None:
    """Return the prefix of the section that has a key; None for a key without a group."""
    prefixes = [prefix for group in GROUPS for prefix in group.prefixes if prefix and key.startswith(prefix + ".")]
    return max(prefixes, key=len, default=None)


def _clip_keys() -> list[Option]:
    """Return the keys of model.clip, with the defaults of `ClipSpec`."""
    defaults = {field.name: field.default for field in dataclasses.fields(ClipSpec)}
    return [
        dataclasses.replace(option, default=_default(defaults[option.name.rpartition(".")[2]]))
        for option in read_help("fit", "--model.clip.help").options
    ]


def _default(value: object) -> str:
    if value is dataclasses.MISSING:
        return "of the backbone"
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _index(keys: list[Option]) -> str:
    lines = [
        cleandoc("""
        # Config keys

        A config of `farfield fit` is a YAML file with these keys. It holds only what differs from the defaults:

        ```yaml
        run_dir: runs/mine
        model:
          backbone: slow_r50
          weights: pytorchvideo
        data:
          train: train.csv
          val: val.csv
        trainer:
          max_epochs: 10
        ```

        Every key is an option, too, which overrides the config: `--data.batch_size 4`. In Python it is an entry of
        `overrides`: `farfield.train("my.yaml", {"data.batch_size": 4})`. `--print_config` prints every key with the
        value that it would have. A mistyped key fails, and the message names the nearest one.
        """),
        "",
    ]
    for group in GROUPS:
        lines += [f"## [{group.title}]({group.file}.md)", "", group.introduction, ""]
        for prefix in group.prefixes:
            links = [f"[`{key.name}`]({group.file}.md#{key.name})" for key in keys if section_of(key.name) == prefix]
            lines += [" · ".join(links), ""]
    return "\n".join(lines)


def _page(group: Group, keys: list[Option]) -> str:
    page = f"{FOLDER}/{group.file}.md"
    lines = [f"# {group.title}", "", group.introduction, ""]
    for prefix, title in group.prefixes.items():
        members = [key for key in keys if section_of(key.name) == prefix]
        lines += [f"## {title} {{ #{re.sub(r'[^a-z]', '', title.lower())} }}", ""]
        if prefix in _IN_TABLE:
            lines += [
                "| key | type | default | meaning |",
                "|---|---|---|---|",
                *(option_row(key, page) for key in members),
                "",
            ]
        else:
            lines += [option_section(key, page, dashes=False) for key in members]
    return "\n".join(lines)
