"""From a request's body to a file, piece by piece as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from farfield.server.display_names import display_name
from farfield.server.limits import Refused

MAX_PARTS = 100
"""Of a form: each takes the server's own time, however small it is."""


async def receive(request: Request, target: Path) -> str:
    """Writes the file in a request's body to `target`: a form's first file, or all of a body that is no form.

    Returns:
        What the sender calls it, fit to be shown. It has no part in where it is written.

    Raises:
        Refused: for a form that is malformed, without a file or of very many parts, or an empty body.
        ClientDisconnect: where the sender hangs up.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    with target.open("wb") as file:
        if kind != b"multipart/form-data":
            async for chunk in request.stream():
                file.write(chunk)
            if file.tell() == 0:
                raise _no_file()
            return display_name(None)
        try:
            name = await _form_file(request.stream(), options.get(b"boundary", b""), file)
        except Refused:
            raise
        except (FormParserError, ValueError) as error:  # a boundary that is empty or too long, a header without end
            raise Refused("The form is malformed: it is no multipart/form-data.", "malformed") from error
    if name is None:
        raise _no_file()
    return name


def _no_file() -> Refused:
    return Refused("There is no file. Send one: curl -F file=@clip.mp4 .../predict", "no_file")


async def _form_file(body: AsyncIterator[bytes], boundary: bytes, file: BinaryIO) -> str | None:
    """Writes the first part that has a file name; other parts are read past."""
    parts = _Parts(file)
    if not boundary:
        raise FormParserError("no boundary")
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_field,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_headers_finished": parts.headers_finished,
            "on_part_data": parts.data,
            "on_end": parts.end,
        },
    )
    async for chunk in body:
        parser.write(chunk)
    parser.finalize()
    if not parts.ended:
        raise FormParserError("it breaks off")
    return parts.name


class _Parts:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writes = False
        self._count = 0
        self._field = self._value = b""
        self.name: str | None = None
        self.ended = False

    def begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise Refused(f"The form has more than {MAX_PARTS} parts. Send one with the file.", "malformed")
        self._writes = False
        self._disposition = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        given = options.get(b"filename")
        if given is not None and self.name is None:
            self.name = display_name(given.decode("utf-8", "replace"))
            self._writes = True

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._writes:
            self._file.write(data[start:end])

    def end(self) -> None:
        self.ended = True
