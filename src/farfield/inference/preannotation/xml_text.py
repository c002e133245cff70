"""Build XML files for labelling tools."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow, among them the surrogates in a path that is not valid UTF-8."""


def path_text(path: str | Path) -> str:
    """Return a path as text. Each character that XML does not allow is replaced by U+FFFD."""
    return NOT_IN_XML.sub("\ufffd", str(path))


def xml_text(root: ElementTree.Element, *, declaration: bool = True) -> str:
    """Format an XML document, indented."""
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' if declaration else ""
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"
