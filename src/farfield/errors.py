"""Errors that a user can fix.

The command line prints them in one line, without a traceback. Any other exception is a bug of farfield and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FarfieldError(ValueError):
    """An error in the user's input; the message says what was given, what is needed and what to do.

    If a worker process of a data loader raises the error, PyTorch creates it again with the worker's traceback before
    the message. The traceback is removed.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught FarfieldError in DataLoader worker process"):
            message = message.rsplit(f"{__name__}.FarfieldError: ", 1)[-1].strip()
        super().__init__(message)


class VideoError(FarfieldError):
    """Raised for a video that cannot be used, for example because it is damaged, missing or too short for a clip.

    Attributes:
        path: path or address of the video.
        reason: what is wrong with the video, in one line.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # by default, the message would be passed as the path


def damage(error: Exception) -> str:
    """Describe what is wrong with a file's content, given the exception that was raised while reading the file.

    The result is a clause such as "it has no 'labels'", where "it" is the file. Put it after the file's name.
    """
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    return "its structure is wrong" if isinstance(error, TypeError | AttributeError | LookupError) else str(error)


def nearest(given: str, known: Iterable[str]) -> str:
    """Return a hint for an error message: all known names and a name that is similar to `given`, if there is one.

    If there are more than 30 known names, the hint is only the similar name, or the first 30 names if none is similar.
    """
    names = [str(name) for name in known]
    if not names:
        return "There are none."
    plain = {name.casefold(): name for name in reversed(names)}
    close = [plain[found] for found in difflib.get_close_matches(str(given).casefold(), plain, n=1)]
    close = close or [name for name in names if name.casefold().startswith(str(given).casefold())][:1]
    meant = [f"Did you mean {close[0]!r}?"] if close else []
    if len(names) <= 30:
        return " ".join([f"Known: {', '.join(names)}.", *meant])
    return meant[0] if close else f"Known: {', '.join(names[:30])}, ... ({len(names)} in all)."
