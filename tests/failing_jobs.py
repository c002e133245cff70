"""A job for tests of parallel work, which runs in other processes and so must be importable."""

from __future__ import annotations

import os
import signal
import time

from farfield.errors import VideoError


def misbehave(job: str) -> str:
    """Fail as the job says; return any other job in capitals."""
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "hang":
        time.sleep(60)
    if job == "bad":
        raise VideoError("x.mp4", "it is no good")
    if job == "defect":
        raise KeyError("a defect of ours")
    return job.upper()


def end() -> None:
    """Ends the process."""
    os._exit(9)
