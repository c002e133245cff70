"""Read XML files that a user gives as annotations."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError


def read_xml(path: Path, tool: str, needed: str) -> ElementTree.Element:
    """Read an XML file, and return its root element.

    A file that declares a document type or entities is refused: expanding entities could fill the memory even for a
    small file.

    Args:
        path: file to read.
        tool: name of the tool that writes these files, for the error message.
        needed: last sentence of the error messages, such as "Give annotations.xml of a CVAT export."

    Raises:
        FarfieldError: for a missing file, a file that is not XML, or a file that declares a document type or entities.
    """
    text = read_text(path, needed)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FarfieldError(f"{path} declares a document type or entities, which files of {tool} never do. {needed}")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise FarfieldError(f"{path} is not XML: {error}. {needed}") from error
