"""Open the folder of a store of transcoded videos: check its settings, lock it, and remove unfinished files."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from farfield.atomic_write import atomic_write
from farfield.curation.encoding import Encoding
from farfield.errors import FarfieldError

log = logging.getLogger("farfield")


def check_store_folder(source: Path, out: Path) -> None:
    """Refuse a store folder whose files could overwrite the source.

    Raises:
        FarfieldError: if the source is the store's manifest, the store's folder, or a folder inside the store.
    """
    given = source.resolve()
    if given == (out / "manifest.csv").resolve():
        raise FarfieldError(f"{source} would be overwritten by the store's manifest. Give another folder than {out}.")
    if given.is_dir() and given.is_relative_to(out.resolve()):
        raise FarfieldError(
            f"{source} lies in {out}, to which the store's videos are written. Give another folder than {out}."
        )


def open_store(out: Path, encoding: Encoding, source: Path) -> FileLock:
    """Create the folder of a store, or open an existing one, and lock it.

    Returns:
        The acquired lock.

    Raises:
        FarfieldError: if the store was made from a different source or with different settings, if another run has
            locked it, or if it cannot be written.
    """
    record = out / "store.json"
    settings = asdict(encoding) | {"source": str(source.resolve())}
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        known = json.loads(record.read_text()) if record.is_file() and (out / "videos").is_dir() else None
    except Timeout as error:
        raise FarfieldError(f"another run is preparing {out}. Wait for it, or give another folder.") from error
    except OSError as error:
        raise FarfieldError(f"{out} cannot be used as a store: {error.strerror}. Give another folder.") from error
    except ValueError as error:
        raise FarfieldError(f"{record} is damaged: {error}. Restore it, or give another folder.") from error
    is_earlier = False
    if isinstance(known, dict) and not settings.keys() <= known.keys():
        is_earlier = True
        log.warning(
            "the store %s was started by an earlier version of farfield. Its videos are kept, but those "
            "made from interlaced, HDR or mirrored sources, or from H.264 in AVI or ASF, are encoded "
            "differently from the videos that are added now. Remove the store to rebuild it.",
            out,
        )
        known = {name: value for name, value in settings.items() if name not in known} | known
    if isinstance(known, dict) and known != settings:
        lock.release()
        other = [name for name in settings if known.get(name) != settings[name]]
        changed = [f"{name} was {known.get(name)}, now {settings[name]}" for name in other]
        raise FarfieldError(
            f"{out} was made from a different source or with different settings: {'; '.join(changed)}. Give the same "
            "source and settings, or another folder."
        )
    if not is_earlier:
        with atomic_write(record) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n")
    remove_partial_files(out)
    return lock


def remove_partial_files(out: Path) -> None:
    """Remove the unfinished files that killed workers left in the store."""
    for partial in (out / "videos").rglob("*.partial"):
        partial.unlink(missing_ok=True)
