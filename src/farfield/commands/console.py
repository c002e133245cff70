"""Console output: logging set-up, library warnings and the report of skipped files."""

from __future__ import annotations

import logging
import sys
import warnings

from farfield.curation.folder_scan import SkippedFiles


def report_skipped_files(skipped: SkippedFiles, *, can_list: bool = True) -> None:
    """Print to standard error how many files were skipped in scanned folders.

    The names of these files are printed, too, if `skipped` holds them.

    Args:
        skipped: record of the files that the scans skipped.
        can_list: whether to recommend the option --list_left_out if `skipped` holds no names. False for a command
            without this option.
    """
    for path, reason in skipped.names:
        print(f"left out: {path}: {reason.value[0]}", file=sys.stderr)
    if skipped.counts:
        hint = "" if skipped.keep_names or not can_list else "; --list_left_out names them"
        print(f"left out: {skipped.summary()}{hint}", file=sys.stderr)


def quiet_libraries() -> None:
    """Log farfield's messages to standard error, and suppress the libraries' tips and harmless warnings."""
    ours = logging.getLogger("farfield")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("farfield: %(message)s"))
    ours.handlers = [handler]  # replaces an earlier call's handler, whose stream may be closed
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*torch.jit.script.*",  # torchvision and fvcore
        ".*does not have many workers.*",  # small data needs few
        ".*dataloader is not resumable.*",  # data/samplers.py restores the order
        ".*Checkpoint directory .* exists and is not empty.*",  # expected for a resumed run
        ".*callbacks used to create the checkpoint.*",  # changed options; the callbacks log what it means
        ".*The dirpath has changed.*",  # expected for a moved run; the best-checkpoint callback handles it
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
