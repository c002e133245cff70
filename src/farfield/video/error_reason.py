"""Shorten a decoder's exception to one line for messages and reports."""

from __future__ import annotations

import re


def reason_of(error: BaseException) -> str:
    """Return the reason in a decoder's exception as one line.

    The line leaves out the file's name, so that files can be counted by reason.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    # decord puts times, source lines and the failed comparison before the reason; FFmpeg a number, and its log after.
    text = re.sub(r"^(.*\.cc:\d+: (Check failed: .*? \(.*? vs\. .*?\) )?|\[Errno \d+\] )", "", text)
    return re.sub(r": '[^']*'(?=;|$)", "", text).replace("; last error log: ", ": ")
