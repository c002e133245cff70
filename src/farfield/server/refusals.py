"""The exception `Refused` for requests that the server refuses, and the HTTP status of each reason."""

from __future__ import annotations

from farfield.errors import FarfieldError

STATUSES = {
    "undecodable": 400,
    "malformed": 400,
    "forbidden": 403,
    "not_found": 404,
    "slow_upload": 408,
    "too_large": 413,
    "too_long": 413,
    "no_file": 422,
    "internal": 500,
    "busy": 503,
    "time_limit": 504,
}
"""HTTP status of each reason."""

VIDEO_DELETED = "The video has been deleted. Upload it again."


class Refused(FarfieldError):
    """Raised for a request that the server answers with an error.

    Attributes:
        reason: machine-readable cause of the refusal; a key of `STATUSES`.
        retry_seconds: time to wait before sending the request again; None if sending it again cannot help.
    """

    def __init__(self, message: str, reason: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_seconds = retry_seconds

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str, int | None]]:
        return type(self), (str(self), self.reason, self.retry_seconds)

    @property
    def status(self) -> int:
        """HTTP status of the response."""
        return STATUSES[self.reason]
