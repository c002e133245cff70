"""Render HTML and Markdown from Jinja2 templates. Every value is escaped.

Labels, file names and error messages are untrusted, so every `{{ value }}` is escaped automatically: in HTML templates
by Jinja2's autoescaping, in Markdown templates by `escape_markdown`. Only the results of some filters are not escaped
again. In Markdown templates, these filters are `code`, `fenced`, `json` and `estimate`; in HTML templates, they are
those of Jinja2 that return markup, such as `safe`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Render a template of reports/templates/ as HTML or Markdown, according to its suffix."""
    if template.endswith(".html.j2"):
        return html_environment().get_template(template).render(values)
    if template.endswith(".md.j2"):
        return markdown_environment().get_template(template).render(values)
    raise ValueError(
        f"template is {template}; it must end in .html.j2 or .md.j2, because the suffix decides how values are escaped."
    )


@cache
def html_environment() -> Environment:
    """Build the Jinja2 environment of the HTML templates."""
    return _environment(autoescape=True)


@cache
def markdown_environment() -> Environment:
    """Build the Jinja2 environment of the Markdown templates.

    Filters: `code` (a code span), `fenced` (a line of a fenced code block), `json` (a value of the YAML front matter).
    """
    environment = _environment(autoescape=False, finalize=_finalize_markdown)  # autoescape would escape as HTML
    environment.filters.update(code=code_span, fenced=fenced_line, json=json_value)
    environment.filters.update(estimate=lambda found: Markdown(estimate(found)))  # has no syntax; "-" stays readable
    return environment


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: slow to import

    environment = Environment(
        loader=PackageLoader("farfield.reports", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters.update(percent=percent, estimate=estimate)
    return environment


def percent(share: float, digits: int = 2) -> str:
    """Format a fraction, such as 0.5, as a percentage, such as "50.00%"."""
    return f"{100 * share:.{digits}f}%"


def estimate(found: Mapping[str, float | None]) -> str:
    """Format a metric with its confidence interval, such as "74.0% (72.1 to 75.8)".

    The text is "-" if the metric is undefined, and only the value if the interval is undefined.

    Args:
        found: dict with the metric's "value", and the bounds of the interval, "low" and "high". All three are
            fractions, or None if undefined.
    """
    value, low, high = (found[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return (
        percent(value, 1)
        if low is None or high is None
        else f"{percent(value, 1)} ({100 * low:.1f} to {100 * high:.1f})"
    )


class Markdown(str):
    """Text that is valid Markdown and is not escaped again.

    markupsafe's `Markup` is unsuitable, because its `+`, `%` and `join` escape for HTML. In this class, `+`, `%` and
    `join` return a plain `str`, and a template escapes the whole `str` afterwards.
    """

    __slots__ = ()


def _finalize_markdown(value: object) -> str:
    return value if isinstance(value, Markdown) else escape_markdown(value)


_LITERAL = re.compile(
    r"""(
        [^\W_]                          # letters and digits
      | [ ,('"%\ufffd\ud800-\udfff]     # no syntax; surrogates stand for the bytes of names that are not UTF-8
      | (?<=[^\W_])[_-](?=[^\W_])       # within words
      | (?<=\d)\.(?=\d)                 # the point of a number
      | (?<=[^\W_]|[)'"%])[.:;](?=[ ]|$)  # at the end of a word
      | (?<=[^\W_]|[)'"%])\)
    )|.""",
    re.VERBOSE,
)
_LIST_MARKER = re.compile(r"^(\d+)([.)])(?=[ ]|$)")


def escape_markdown(text: object) -> Markdown:
    """Escape a text so that Markdown renders every character literally, on one line.

    Letters, digits and punctuation that cannot be syntax are kept, so that the source stays readable. All other
    characters become character references. URLs and e-mail addresses do not become links.
    """
    escaped = _LITERAL.sub(lambda found: found[1] or _reference(found[0]), _one_line(text))
    return Markdown(_LIST_MARKER.sub(lambda found: found[1] + _reference(found[2]), escaped))


def _reference(character: str) -> str:
    return f"&#{ord(character)};"


def code_span(text: object) -> Markdown:
    """Wrap a text in a code span whose delimiters are longer than any run of backticks in the text."""
    one_line = _one_line(text)
    if not one_line:
        return Markdown("")
    longest = max((len(run) for run in re.findall("`+", one_line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""  # CommonMark strips a space from both ends
    return Markdown(f"{fence}{padding}{one_line}{padding}{fence}")


def fenced_line(text: object) -> Markdown:
    """Put a text on one line, and replace ``` by ''', so that the text cannot end a fenced code block."""
    return Markdown(_one_line(text).replace("```", "'''"))


def json_value(value: object) -> Markdown:
    """Encode a value as ASCII JSON on one line, which is also valid YAML."""
    return Markdown(json.dumps(value))


def _one_line(text: object) -> str:
    """Put a text on one line, and replace control characters by U+FFFD, since a terminal would execute them."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", " ".join(str(text).split()))
