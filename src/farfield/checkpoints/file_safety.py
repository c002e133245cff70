"""Check that checkpoint files are safe to read, and explain errors of files that cannot be read.

`check_file_safety` refuses files that are unsafe to pass to `torch.load`: compressed archives, which may expand to far
more than their size; TorchScript archives, whose code would run; and pickles nested too deeply to read recursively.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
import zipfile
from pathlib import Path
from typing import IO, Any

from farfield.errors import FarfieldError

MAX_NESTING = 500
"""Maximum nesting of tuples, lists and dicts; real checkpoints have about ten levels."""


def check_file_safety(path: Path) -> None:
    """Check that a checkpoint file is safe to read, without decompressing or unpickling any of it.

    Raises:
        FarfieldError: for a folder, a missing file, an unsafe archive, or a pickle nested too deeply.
    """
    if path.is_dir():
        raise FarfieldError(
            f"{path} is a folder. Give the path of a checkpoint file, such as runs/NAME/checkpoints/best.ckpt."
        )
    if not path.is_file():
        raise FarfieldError(
            f"there is no checkpoint at {path}. Give the path of a checkpoint file, such as "
            "runs/NAME/checkpoints/best.ckpt."
        )
    if zipfile.is_zipfile(path):
        _check_archive(path)
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith("data.pkl"):
                    _check_nesting(io.BytesIO(_read(archive, member, path)), path)
        return
    if path.stat().st_size and tarfile.is_tarfile(path):  # torch would extract it to disk
        raise FarfieldError(
            f"{path} is a tar archive, a checkpoint format that PyTorch no longer writes. It was not extracted. "
            "If you trust the file, read it with torch.load and write it again with torch.save."
        )
    with path.open("rb") as file:
        for _ in range(8):  # older torch wrote a sequence of pickles, followed by raw numbers
            if not _check_nesting(file, path):
                return


def _check_archive(path: Path) -> None:
    """Raise for a zip archive that has code, compressed members, or members larger in total than the file."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = path.stat().st_size
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    code = [m.filename for m in members if m.filename.endswith("constants.pkl") or "/code/" in f"/{m.filename}"]
    if code:
        what = f"it is a TorchScript program ({code[0]}), which would run when read. Save its state dict instead"
    elif packed:
        what = f"its member {packed[0]} is compressed, but torch.save never compresses. It was not decompressed"
    elif sum(m.file_size for m in members) > size:
        what = f"the stated sizes of its members add up to more than the whole file ({size} bytes). It was not read"
    else:
        return
    raise FarfieldError(f"{path} cannot be read as a checkpoint: {what}.")


def _read(archive: zipfile.ZipFile, member: str, path: Path) -> bytes:
    try:
        return archive.read(member)
    except zipfile.BadZipFile as error:  # such as a wrong checksum, which torch.load does not check
        raise FarfieldError(f"{path} cannot be read as a checkpoint: {why_unreadable(path, error)}") from error


def _check_nesting(file: IO[bytes], path: Path) -> bool:
    """Check how deeply a pickle is nested, without unpickling it.

    Returns:
        True if the pickle was checked to its end; False if it is damaged or truncated.

    Raises:
        FarfieldError: for more than `MAX_NESTING` levels.
    """
    depths: list[int | None] = []  # None is a mark
    memo: dict[Any, int] = {}
    try:
        for code, argument, _ in pickletools.genops(file):
            _follow(code, argument, depths, memo)
            if depths and (depths[-1] or 0) > MAX_NESTING:
                break
        else:
            return True
    except (ValueError, IndexError, KeyError, UnicodeError, OverflowError, MemoryError):
        return False  # the reader reports what is wrong
    raise FarfieldError(
        f"{path} cannot be read as a checkpoint: its data is nested more than {MAX_NESTING} levels deep. Copy or "
        "download the file again, or give a checkpoint."
    )


def _follow(code: pickletools.OpcodeInfo, argument: Any, depths: list[int | None], memo: dict[Any, int]) -> None:
    """Apply one pickle instruction to `depths`, the unpickler's stack with each object replaced by its nesting depth.

    In `depths`, None stands for a mark. `memo` has the nesting depths of the objects in the unpickler's memo.

    For [[7]], without the instructions for the memo:

        instruction   depths
        EMPTY_LIST    0          outer list
        EMPTY_LIST    0 0        inner list
        BININT1 7     0 0 0      the number 7
        APPEND        0 1        a list is one level deeper than its items
        APPEND        2
    """
    name = code.name
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = depths[-1] or 0
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        depths.append(memo.get(argument, 0))
    elif name == "MARK":
        depths.append(None)
    elif name == "DUP":
        depths.append(depths[-1])
    elif name == "STOP":
        depths.clear()
    else:
        inside: list[int] = []
        for needed in reversed(code.stack_before):
            if needed is pickletools.stackslice:
                while depths[-1] is not None:
                    inside.append(depths.pop() or 0)
            else:
                inside.append(depths.pop() or 0)
        if not code.stack_after:
            return
        grows = name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
        holder = inside.pop() if grows and inside else 0
        depths.append(max(holder, max(inside, default=-1) + 1))


class UnsafePickle(pickle.UnpicklingError):
    """Raised for an unsafe pickle. The message continues the sentence "PATH cannot be read as a checkpoint: ..."."""


_KINDS = {
    b"\x89HDF": "an HDF5 file, a format of Keras",
    b"\x1f\x8b": "compressed with gzip. Unpack it",
    b"BZh": "compressed with bzip2. Unpack it",
    b"\xfd7zXZ": "compressed with xz. Unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd. Unpack it",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"RIFF": "a video, audio or image file",
    b"\x1aE\xdf\xa3": "a video",
}
"""First bytes of files that users may give as a checkpoint by mistake, each with the end of the message "it is ..."."""


def why_unreadable(path: Path, error: Exception) -> str:
    """Return the last part of an error message: why a file cannot be read as a checkpoint."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "it is empty. Copy or download the file again."
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "it is truncated, or damaged at its end. Copy or download the file again."
    for start, kind in _KINDS.items():
        if head.startswith(start):
            return f"it is {kind}."
    if head[4:8] == b"ftyp":
        return "it is a video. Give a checkpoint."
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "it is a safetensors file. Rewrite it first: torch.save(safetensors.torch.load_file(PATH), NEW_PATH)."
    try:
        if all(character.isprintable() or character in "\r\n\t" for character in head.decode("utf-8")):
            return "it is a text file. Give a checkpoint."
    except UnicodeDecodeError:
        pass
    if isinstance(error, UnsafePickle):
        return f"{error}."
    if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
        return (
            "it holds Python objects that are neither tensors nor plain types. If another project wrote it, convert "
            "it with farfield convert."
        )
    return "it is damaged, truncated, or not a checkpoint. Copy or download the file again, or give a checkpoint."
