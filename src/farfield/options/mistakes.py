"""Explain the errors of the command-line parser, and suggest the option most similar to a misspelt one."""

from __future__ import annotations

import ast
import difflib
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from farfield.clip_spec import ClipOptions, ClipSpec
from farfield.curation.folder_scan import has_video_suffix
from farfield.errors import FarfieldError, nearest
from farfield.options.jsonargparse_compat import (
    error_in_group,
    expects_value,
    is_about_words,
    missing_value,
    one_line,
    refused_value,
    surplus_word,
    unknown_option,
)
from farfield.options.type_words import describe_type, is_list_type, literal_choices


def file_hint(message: str, words: Sequence[str]) -> str | None:
    """Explain a mix-up of files and options; return None for other mistakes.

    The mix-up is a file name that starts with `-` and was read as an option, or an option after `--` that was read as a
    file.

    Args:
        message: the parser's error message.
        words: the command's arguments.
    """
    if not is_about_words(message):
        return None
    if "--" in words:
        surplus = [word for word in words[words.index("--") :] if re.match("--.", word)]
        if surplus:
            return f"{surplus[0]} comes after --, so it is read as a file. Put options before --, and files after it."
        return None
    for word in words:
        short = re.match(r"-[^-]", word) and not re.fullmatch(r"-[\d.e+-]+", word)
        if short or (word.startswith("--") and (has_video_suffix(word) or Path(word).exists())):
            apart = "" if expects_value(message) else ", or put all options first, then --, then the files"
            return f"{word} is not an option. If it is a file, write ./{word}{apart}. See --help."
    return None


def explain(message: str, options: Sequence[str], required: Sequence[str], type_of: Callable[[str], Any]) -> str:
    """Rewrite a parser's error message as one line that says which option is wrong or missing, and what it must be.

    Args:
        message: the parser's error message.
        options: names of all options.
        required: names of the required options.
        type_of: returns the type of an option, or of a key in an option's value; None if unknown.
    """
    text = one_line(message)
    if inside := error_in_group(text):
        return _explain_in_group(*inside, type_of)
    if name := unknown_option(text):
        if name in options:  # it is positional
            return f"{name} is a positional argument, not an option. See --help."
        return f"there is no option {name}. {nearest_option(name, options)}"
    if surplus := surplus_word(text):
        return f"{surplus} is unexpected. Put all files together, before or after all options. See --help."
    missing = missing_value(text)
    if missing in required:
        *others, last = (f"--{name}" for name in required)
        return f"{missing} is missing. Give --config, or {', '.join(others)} and {last}."
    return _explain_value(text, type_of) or text.removesuffix(".") + ". See --help."


def _explain_in_group(group: str, message: str, type_of: Callable[[str], Any]) -> str:
    """Rewrite an error message about an option in a group, so that it names the option as "group.option"."""
    if "arser key" in message:
        named = re.sub(r'([Pp]arser key ")', rf"\g<1>{group}.", message)
        return _explain_value(named, type_of) or named
    return re.sub(r"^(there is no option )?(?=\w)", rf"\g<1>{group}.", message, count=1)


def nearest_option(given: str, options: Sequence[str]) -> str:
    """Return a hint that names the option nearest to `given`, for example "model.optimisation.lr" for "lr".

    The last part of a name is the text after its last dot. Similarity is difflib's ratio, from 0 to 1. Case is ignored.
    The candidates are the first non-empty group of:

    1. options whose last part is most similar to the last part of `given`, if that similarity is at least 0.6;
    2. options whose last part contains the last part of `given`;
    3. options whose whole name has a similarity of at least 0.6 to `given`.

    The nearest option is the candidate whose whole name is most similar to `given`. If all groups are empty, the hint
    names no nearest option. If there are at most 30 options, the hint lists them all. If there are more, and none is
    nearest, the hint is "See --help.".
    """

    def likeness(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()

    def last(name: str) -> str:
        return name.rpartition(".")[2]

    near = max((likeness(last(given), last(option)) for option in options), default=0.0)
    found = [option for option in options if near >= 0.6 and likeness(last(given), last(option)) == near]
    found = found or [option for option in options if last(given).casefold() in last(option).casefold()]
    found = found or [option for option in options if likeness(given, option) >= 0.6]
    meant = [f"Did you mean {max(found, key=lambda option: likeness(given, option))!r}?"] if found else []
    if len(options) <= 30:
        return " ".join([f"Known: {', '.join(options)}.", *meant])
    return meant[0] if meant else "See --help."


def _explain_value(text: str, type_of: Callable[[str], Any]) -> str | None:
    """Rewrite an error message about a value of the wrong type in plain words; return None for other messages."""
    refused = refused_value(text)
    if refused is None:
        return None
    option, given = refused.option, refused.given
    if refused.unexpected_key:
        if option.rpartition(".")[2] != "clip":
            return None
        hint = nearest(refused.unexpected_key, ClipOptions.__annotations__)
        return f"{option} has no {refused.unexpected_key!r}. {hint}"
    hint = type_of(option)
    if hint is ClipOptions or ClipOptions in typing.get_args(hint):
        return _mistake_in_clip(option, given)
    is_bracketed = given[:1] in ("[", "{")
    if (choices := literal_choices(hint)) and not is_bracketed:
        return f"{option} is {given!r}. {nearest(given, choices)}"
    words = describe_type(hint)
    if words is None:
        return None
    is_element = refused.may_be_element and is_list_type(hint) and not is_bracketed
    return f"{option} {'has the element' if is_element else 'is'} {given}; it must be {words}."


def _mistake_in_clip(option: str, given: str) -> str:
    """Return the first mistake in clip settings, with the option's full name.

    Args:
        option: name of the option that holds clip settings.
        given: its value, as text; or, where jsonargparse does not show the whole value, the part that is wrong.
    """
    try:
        values = ast.literal_eval(given)
        ClipSpec(**{"num_frames": 1, "crop_px": 1, **values})
    except FarfieldError as error:
        return str(error).replace("clip.", f"{option}.")
    except (ValueError, SyntaxError, TypeError):
        pass
    return f"{option} has the value {given}, which is of the wrong type. --{option}.help lists the types."
