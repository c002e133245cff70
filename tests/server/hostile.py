"""Files that nobody should send, and somebody will."""

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

MAGIC = {
    "mp4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41",
    "avi": b"RIFF\xff\xff\xff\x7fAVI LIST",
    "webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01",
    "gif": b"GIF89a\xff\xff\xff\xff\xf7\x00\x00",
    "flv": b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00",
    "ogv": b"OggS\x00\x02" + b"\x00" * 8,
    "mpg": b"\x00\x00\x01\xba\x44\x00\x04\x00\x04\x01",
    "ts": b"\x47\x40\x00\x10" * 60,
    "wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "y4m": b"YUV4MPEG2 W30000 H30000 F25:1\nFRAME\n",
}
NAMES = [
    "../../../../tmp/out.mp4",
    "/etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "http://127.0.0.1/a.mp4",
    "concat:/etc/passwd|/etc/hosts",
    "a\r\nSet-Cookie: x=1\r\n\r\n<html>.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "x" * 300 + ".mp4",
    "a\x00.mp4",
    "видео-🎬-\u202egpj.mp4",
    "%2e%2e%2fetc%2fpasswd",
    "image%03d.mp4",
    "-i.mp4",
    "$(touch x).mp4",
    "'; DROP TABLE clips; --.mp4",
    ".",
    "CON.mp4",
]


def scripts() -> dict[str, bytes]:
    """Texts that FFmpeg can take for lists of other files. All that these name is a part that is not there.

    The guard is for lists that name files of the server, or addresses: it refuses all of them by their first bytes,
    before FFmpeg sees them.
    """
    part = "farfield-part-that-is-not-there.ts"
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


def gif_header(side: int) -> bytes:
    """A tiny file that says how large it is."""
    size = struct.pack("<HH", side, side)
    colours = b"\xf0\x00\x00\x00\x00\x00\xff\xff\xff"
    return b"GIF89a" + size + colours + b",\x00\x00\x00\x00" + size + b"\x00\x02\x02\x4c\x01\x00;"


def bomb_gif(side: int = 6000, frames: int = 20) -> bytes:
    """Frames of one colour: kilobytes that unfold into gigabytes."""
    pictures = [Image.fromarray(np.full((side, side), i, np.uint8)) for i in range(2)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=[pictures[i % 2] for i in range(1, frames)])
    return file.getvalue()


def motion_jpeg_that_grows() -> bytes:
    """An AVI of 64 x 64 whose pictures say that they are 30000 x 30000."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    jpeg = bytearray(file.getvalue())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 30000, 30000)
    if len(jpeg) % 2:
        jpeg += b"\x00"

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content

    avih = struct.pack("<14I", 40000, 0, 0, 0x10, 9, 0, 1, 0, 64, 64, 0, 0, 0, 0)
    strh = (
        b"vidsMJPG" + struct.pack("<IHHIIIIIIII", 0, 0, 0, 0, 1, 25, 0, 9, 0, 0, 0) + struct.pack("<4H", 0, 0, 64, 64)
    )
    strf = struct.pack("<IiiHH4sIiiII", 40, 64, 64, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", strh) + chunk(b"strf", strf))
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", avih) + stream)
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", bytes(jpeg)) * 9)
    return chunk(b"RIFF", b"AVI " + headers + movie)


def huge_png() -> bytes:
    """A header of 30000 x 30000, and a picture of nothing."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 90001))
        + chunk(b"IEND", b"")
    )


def archives(video: bytes) -> dict[str, bytes]:
    """Files that are two things at once, and bombs of archives."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../clip.mp4", b"\x00" * 10_000_000)
    return {
        "video_then_zip": video + packed.getvalue(),
        "zip_then_video": packed.getvalue() + video,
        "html_then_video": b"<script>alert(1)</script>" + video,
        "pdf_then_video": b"%PDF-1.4\n" + video,
        "gzip": gzip.compress(b"\x00" * 10_000_000),
        "two_videos": video + video,
    }


def damaged(video: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A real video, cut off and with bytes changed."""
    for tenth in range(1, 10):
        yield f"cut_{tenth}", video[: len(video) * tenth // 10]
    for count in (1, 3, 10, 30, 100, 300, 1000):
        content = bytearray(video)
        for _ in range(count):
            content[rng.randrange(len(content))] = rng.randrange(256)
        yield f"changed_{count}", bytes(content)
    for kind in ("mvhd", "mdhd", "stsz", "stts", "stco", "tkhd", "avcC"):
        content = bytearray(video)
        at = content.find(kind.encode()) + 12
        content[at : at + 8] = b"\x7f\xff\xff\xf0" * 2
        yield f"box_{kind}", bytes(content)


def all_files(video: bytes, bad_files: dict[str, Path]) -> list[tuple[str, bytes]]:
    """A hundred or more, each with what its sender calls it."""
    rng = random.Random(7)
    files = [(path.name, path.read_bytes()) for path in bad_files.values() if path.exists()]
    files += [(f"{name}.mp4", content) for name, content in scripts().items()]
    files += [(f"{name}.mp4", content) for name, content in archives(video).items()]
    files += [(f"{name}.mp4", content) for name, content in damaged(video, rng)]
    files += [
        ("large.gif", gif_header(15000)),
        ("huge.gif", gif_header(30000)),  # beyond what FFmpeg itself takes
        ("bomb.gif", bomb_gif()),
        ("huge.png", huge_png()),
        ("huge.mp4", huge_png()),
        ("grows.avi", motion_jpeg_that_grows()),
    ]
    for kind, magic in MAGIC.items():
        files += [(f"{kind}_{size}.{kind}", magic + rng.randbytes(size)) for size in (0, 200, 100_000)]
    files += [(name, b"not a video, whatever its name") for name in NAMES]
    rng.shuffle(files)
    return files
