"""What the console shows: our own messages in full, the libraries' warnings, not their chatter."""

from __future__ import annotations

import logging
import sys
import warnings

from farfield.curation.folder_scan import LeftOut


def say_left_out(left_out: LeftOut, *, can_list: bool = True) -> None:
    """Says in one line on standard error what scans of folders passed over, and names it where names were kept.

    Args:
        left_out: the account.
        can_list: the command has an option to keep names.
    """
    for path, reason in left_out.names:
        print(f"left out: {path}: {reason.value[0]}", file=sys.stderr)
    if left_out.counts:
        hint = "" if left_out.keep_names or not can_list else "; --list_left_out names them"
        print(f"left out: {left_out.summary()}{hint}", file=sys.stderr)


def quiet_libraries() -> None:
    """Sends our log to standard error, which leaves standard output to results, and quiets Lightning's tips."""
    ours = logging.getLogger("farfield")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("farfield: %(message)s"))
    ours.handlers = [handler]  # in place of an earlier call's, whose stream may have been closed since
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*torch.jit.script.*",  # torchvision and fvcore
        ".*does not have many workers.*",  # small data needs few
        ".*dataloader is not resumable.*",  # its order resumes by itself, see data/samplers.py
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run's
        ".*The dirpath has changed.*",  # of a run's folder; the best checkpoint sees to it by itself
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
