"""Files that cannot be recognised, as users upload them by mistake, and ordinary ones for tests of the limits."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = [
    "../marker.mp4",
    "/folder/marker.mp4",
    "..\\folder\\marker.mp4",
    "file:marker.mp4",
    "http://127.0.0.1/a.mp4",
    "a\r\nX-Marker: 1.mp4",
    "<b>bold</b>.mp4",
    "x" * 300 + ".mp4",
    "a\x00.mp4",
    "видео-🎬-\u202egpj.mp4",
    "%2e%2e%2fmarker.mp4",
    "image%03d.mp4",
    "-i.mp4",
    ".",
    "CON.mp4",
]
"""Names that would matter if a name were used as a path, a pattern, an option, a header or HTML."""


def texts() -> dict[str, bytes]:
    """Texts, some of which FFmpeg can take for playlists. All that these name is a part that does not exist.

    The guard (`upload_check.refuse_text`) is for playlists that name files of the server, or addresses: it refuses
    every text and playlist by its first bytes, before FFmpeg sees it.
    """
    part = "farfield-part-that-does-not-exist.ts"
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{part}\n#EXT-X-ENDLIST\n".encode(),
        "hls_with_mark": b"\xef\xbb\xbf" + f"#EXTM3U\n#EXTINF:10,\n{part}\n".encode(),
        "hls_binary": b"#EXTM3U\n\x01\n" + f"#EXTINF:10,\n{part}\n".encode(),
        "hls_empty": b"#EXTM3U\n",
        "concat": f"ffconcat version 1.0\nfile '{part}'\nduration 1\n".encode(),
        "concat_binary": b"ffconcat version 1.0\n\x01\n",
        "dash": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "imf": b'<?xml version="1.0"?><AssetMap></AssetMap>',
        "subtitles": b"1\n00:00:00,000 --> 00:00:09,000\n<font face='x'>text</font>\n",
        "html": b"<!doctype html><p>text</p>",
        "shell": b"#!/bin/sh\ntrue\n",
    }


def gif(num_frames: int = 3, *, height: int = 48, width: int = 96) -> bytes:
    """An ordinary animated GIF at 10 frames a second."""
    pictures = [Image.fromarray(np.full((height, width), 40 * i % 256, np.uint8)) for i in range(num_frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


def png() -> bytes:
    """An ordinary picture."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((48, 96), np.uint8)).save(file, "PNG")
    return file.getvalue()


def motion_jpeg(*, header_px: int, frame_px: int, num_frames: int = 9) -> bytes:
    """A small AVI whose header may give its frames another size than they have."""
    file = io.BytesIO()
    Image.new("RGB", (frame_px, frame_px)).save(file, "JPEG")
    jpeg = file.getvalue() + b"\x00" * (len(file.getvalue()) % 2)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content

    size = header_px, header_px
    avih = struct.pack("<14I", 40000, 0, 0, 0x10, num_frames, 0, 1, 0, *size, 0, 0, 0, 0)
    strh = b"vidsMJPG" + struct.pack("<IHHIIIIIIII", 0, 0, 0, 0, 1, 25, 0, num_frames, 0, 0, 0)
    strh += struct.pack("<4H", 0, 0, *size)
    strf = struct.pack("<IiiHH4sIiiII", 40, *size, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", strh) + chunk(b"strf", strf))
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", avih) + stream)
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", jpeg) * num_frames)
    return chunk(b"RIFF", b"AVI " + headers + movie)


def archives(video: bytes) -> dict[str, bytes]:
    """Ordinary archives of a video."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.mp4", video)
    return {"clips.zip": packed.getvalue(), "clip.mp4.gz": gzip.compress(video)}


def damaged(video: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Videos cut off as by a broken transfer, and with bytes changed as by a bad disk."""
    for tenth in range(1, 10):
        yield f"cut_{tenth}.mp4", video[: len(video) * tenth // 10]
    for count in (1, 3, 10, 30, 100, 300, 1000):
        content = bytearray(video)
        for _ in range(count):
            content[rng.randrange(len(content))] = rng.randrange(256)
        yield f"changed_{count}.mp4", bytes(content)


def all_files(video: bytes, bad_files: dict[str, Path]) -> list[tuple[str, bytes]]:
    """All bad uploads, each with its name; some damaged ones can still be recognised."""
    rng = random.Random(7)
    files = [(path.name, path.read_bytes()) for path in bad_files.values() if path.exists()]
    files += [(f"{name}.mp4", content) for name, content in texts().items()]
    files += archives(video).items()
    files += damaged(video, rng)
    files += [("picture.png", png()), ("picture.mp4", png())]
    files += [(name, b"this is not a video") for name in NAMES]
    files += [(f"noise_{size}.mp4", b"\x00" + rng.randbytes(size)) for size in (10, 1000, 100_000)]
    rng.shuffle(files)
    return files
