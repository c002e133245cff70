"""Streaming of an uploaded file from a request's body to disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from farfield.server.display_names import display_name
from farfield.server.refusals import Refused

MAX_PARTS = 100
"""Maximum number of parts in a form. The server's main process parses forms, so more parts would slow all requests."""


async def save_upload(request: Request, target: Path) -> str:
    """Write a request's file to `target`: the first file of a form, or the whole body if the body is not a form.

    Returns:
        The file name that the client gave, made safe to display; "the video" if the client gave none.

    Raises:
        Refused: for an empty body, or a form that is malformed, has no file or has too many parts.
        ClientDisconnect: if the client disconnects.
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
            name = await _save_first_file(request.stream(), options.get(b"boundary", b""), file)
        except Refused:
            raise
        except (FormParserError, ValueError) as error:  # ValueError: an empty or overlong boundary, an endless header
            raise Refused("The form is malformed: it is not valid multipart/form-data.", "malformed") from error
    if name is None:
        raise _no_file()
    return name


def _no_file() -> Refused:
    return Refused("The request contains no file. Send one: curl -F file=@clip.mp4 .../predict", "no_file")


async def _save_first_file(body: AsyncIterator[bytes], boundary: bytes, file: BinaryIO) -> str | None:
    """Write the first part with a file name, and skip all others.

    Return the file name, made safe to display; None if no part has a file name.
    """
    parts = _FormParts(file)
    if not boundary:
        raise FormParserError("the Content-Type header of the form has no boundary")
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
        raise FormParserError("the form has no closing boundary: its end was not sent")
    return parts.name


class _FormParts:
    """Callbacks for the form parser. They write the first file of the form to `file`.

    Attributes:
        name: name of the first file, safe to display; None until a part with a file name is found.
        ended: whether the form is complete.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_first_file = False
        self._count = 0
        self._field = self._value = b""
        self.name: str | None = None
        self.ended = False

    def begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise Refused(f"The form has more than {MAX_PARTS} parts. Send only the file.", "malformed")
        self._is_first_file = False
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
            self._is_first_file = True

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._is_first_file:
            self._file.write(data[start:end])

    def end(self) -> None:
        self.ended = True
