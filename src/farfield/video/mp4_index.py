"""Read the composition offsets of an MP4's frames: display time minus decoding time (ISO/IEC 14496-12, `ctts`).

FFmpeg's index holds decoding times only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int

from farfield.video.container import Source, independent_source

_LARGEST_INDEX = 2**28
"""Maximum size of the index in bytes. A larger index is broken, or belongs to a video that lasts weeks."""


def composition_offsets(source: Source, track_id: int, num_frames: int) -> Int[np.ndarray, " frames"] | None:
    """Read the composition offsets of a track, in units of the track's time scale.

    Args:
        source: path of the file, or an open binary file.
        track_id: id of the video track.
        num_frames: number of frames in the track.

    Returns:
        Offset of each frame in decoding order; zeros if the track stores no offsets, since its display order is then
        its decoding order. None if the index cannot be read, if its offsets are for more or fewer frames than
        `num_frames`, or if it is spread over the file (fragments).
    """
    opened = independent_source(source)
    file = opened.open("rb") if isinstance(opened, Path) else opened
    try:
        moov = _movie(file)
        track = None if moov is None else _track(moov, track_id)
        table = None if track is None else _find(track, b"mdia", b"minf", b"stbl")
        if table is None:
            return None
        found = _find(table, b"ctts")
        return np.zeros(num_frames, np.int64) if found is None else _offsets(found, num_frames)
    except (struct.error, ValueError, OSError):
        return None
    finally:
        if isinstance(opened, Path):
            file.close()


def _movie(file: BinaryIO) -> memoryview | None:
    """Return the content of the box `moov`; None if it is missing or unusable, or if the file is fragmented."""
    begin = 0
    while len(head := file.read(16)) >= 8:
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1:
            (size,), header = struct.unpack(">Q", head[8:16]), 16
        if kind == b"moov" and header <= size < _LARGEST_INDEX:
            file.seek(begin + header)
            moov = memoryview(file.read(size - header))
            return None if _find(moov, b"mvex") is not None else moov
        if size < header:  # 0 means: to the end of the file
            return None
        begin += size
        file.seek(begin)
    return None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    begin = 0
    while begin + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, begin)
        header = 8
        if size == 1:
            (size,), header = struct.unpack_from(">Q", data, begin + 8), 16
        end = begin + size if size else len(data)
        if size and size < header:
            raise ValueError("a box is smaller than its header")
        yield kind, data[begin + header : end]
        begin = end


def _find(data: memoryview, *path: bytes) -> memoryview | None:
    for wanted in path:
        found = next((content for kind, content in _boxes(data) if kind == wanted), None)
        if found is None:
            return None
        data = found
    return data


def _track(moov: memoryview, track_id: int) -> memoryview | None:
    for kind, content in _boxes(moov):
        if kind == b"trak" and (header := _find(content, b"tkhd")) is not None:
            place = 20 if header[0] == 1 else 12  # version 1 has 64-bit times
            if struct.unpack_from(">I", header, place)[0] == track_id:
                return content
    return None


def _offsets(ctts: memoryview, num_frames: int) -> Int[np.ndarray, " frames"] | None:
    (count,) = struct.unpack_from(">I", ctts, 4)
    runs = np.frombuffer(ctts, ">u4", 2 * count, 8).reshape(-1, 2)
    lengths = runs[:, 0].astype(np.int64)
    if lengths.sum() != num_frames:
        return None
    # Version 0 specifies unsigned numbers, but some writers store negative ones: FFmpeg reads both as signed.
    return np.repeat(runs[:, 1].astype(np.uint32).view(np.int32).astype(np.int64), lengths)
