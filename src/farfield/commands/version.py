"""`farfield --version`: the versions to give in a bug report."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from farfield.code_version import code_version

_NOT_LISTED = re.compile(r"extra == .(dev|docs|notebooks).")


def version_report() -> str:
    """Return the versions of farfield (with its commit), Python, the system and the installed requirements as text.

    Packages of extras are listed if they are installed. Tools for developers are not listed. No package is imported.
    """
    lines = [f"farfield {code_version()}", f"Python {platform.python_version()}", platform.platform()]
    names = [
        re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requires("farfield") or [] if not _NOT_LISTED.search(each)
    ]
    for name in dict.fromkeys(name for name in names if name != "farfield"):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # of an extra that is not installed
            continue
    return "\n".join(lines)
