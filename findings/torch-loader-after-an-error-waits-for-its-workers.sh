#!/usr/bin/env bash
# torch 2.14.1 (CPU): after an error in a worker, dropping a DataLoader's iterator takes 5 seconds for each worker.
#
# Expected: the workers end at once, as they do if the iterator is dropped in the middle of an epoch (0.1 s).
# Seen: an error that a worker sends back always leaves a reference cycle (the frame that raises it again keeps the error in a
#   variable), so the iterator is only dropped by the garbage collector. The workers then do not get the message to end: each is
#   waited for until a limit of 5 s, one after the other, and terminated. The wait comes whenever the collector runs next: it looks
#   like a hang of code that has nothing to do with the loader. The same without an error, if the iterator is in any cycle. Nothing
#   is printed. If the error's __traceback__ is set to None first, or the epoch is finished, nothing waits.
# Why it matters: video loaders have many workers. After an error in a notebook, a later cell stands still for 40 s with eight of
#   them, which keep their memory until then; a test suite that expects errors waits in whatever test the collector runs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import gc
import sys
import time

from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __init__(self, is_broken):
        self.is_broken = is_broken

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if self.is_broken:
            raise ValueError("cannot be decoded")
        return index


def stopped_early(workers):
    iterator = iter(DataLoader(Numbers(False), num_workers=workers))
    next(iterator)
    return iterator


def stopped_early_in_a_cycle(workers):
    iterator = stopped_early(workers)
    iterator.itself = iterator
    return iterator


def failed(workers):
    iterator = iter(DataLoader(Numbers(True), num_workers=workers))
    try:
        next(iterator)
    except ValueError as error:
        return error


def failed_without_traceback(workers):
    error = failed(workers)
    error.__traceback__ = None
    return error


gc.disable()  # it runs only where its time is measured
changed = False
for start, waits in ((stopped_early, 0), (failed_without_traceback, 0), (stopped_early_in_a_cycle, 5), (failed, 5)):
    for workers in (1, 2):
        kept = start(workers)
        begin = time.monotonic()
        del kept
        gc.collect()
        seconds = time.monotonic() - begin
        print(f"{start.__name__}, workers {workers}: {seconds:.1f} s")
        changed |= not waits * workers <= seconds < waits * workers + 2
if changed:
    sys.exit("changed")
PY
