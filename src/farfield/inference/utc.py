"""Dates and times in UTC, as text."""

from __future__ import annotations

from datetime import datetime


def utc_text(moment: datetime) -> str:
    """Format `moment`, which must be in UTC, by ISO 8601 with milliseconds: 2026-01-31T12:00:00.000Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
