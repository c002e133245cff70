"""Video files to frames, with one decoder or the other.

PyAV decodes what is needed, see `packets.py`. What it cannot open goes to decord, or the other way round where that is
asked for; what is damaged, or neither can open, is a `DecodeError` that names the file and the reason. A video is
opened in the process that uses it, with one thread, and closed there.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.errors import VideoError
from farfield.video.container import NoVideo, open_container, video_stream
from farfield.video.deinterlacing import Deinterlace
from farfield.video.frame_conversion import sane_aspect
from farfield.video.frame_reader import open_reader
from farfield.video.orientation import orientation_of
from farfield.video.packet_headers import has_parameter_sets, is_recovery_point, size_header
from farfield.video.packet_index import PacketIndex, from_packets
from farfield.video.pyav_decoder import reason_of
from farfield.video.tone_mapping import ToneMap, is_hdr


def _import_decord() -> Any:
    """decord without CUDA's libraries.

    decord2 3.4 first loads all of them that pip has installed, for everybody to see: 0.4 GB a process, and NVBLAS among
    them takes BLAS calls from a PyTorch that is imported later, and crashes. Decoding on the CPU needs none.
    """
    before = {"nvidia": sys.modules["nvidia"]} if "nvidia" in sys.modules else {}
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # Python's way to say that there is no such package
    try:
        return importlib.import_module("decord")
    finally:
        del sys.modules["nvidia"]
        sys.modules.update(before)


decord = _import_decord()

Decoder = Literal["PyAV", "decord"]


class DecodeError(VideoError):
    """Neither decoder can read what was asked of a file."""


class Video(Protocol):
    """An open video."""

    times: Float[np.ndarray, " frames"]
    """When each frame is first shown, in seconds from the first, ascending."""

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decodes the frames at `indices`, in that order; an index may come more than once. RGB, upright.

        With `short_side_px`, frames that are much larger may come reduced, to a short side of so many pixels.
        """

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Yields the frames at `places`, which ascend, in one pass through the file that holds few of them."""

    def close(self) -> None: ...


def _warn_of_two_decords() -> None:
    found = []
    for name in ("decord", "decord2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(found) == 2:
        warnings.warn(
            f"{' and '.join(found)} are both installed. They share one package folder, so that what is imported is a "
            "mix of the two. Mend it with: pip uninstall -y decord decord2 && pip install decord2",
            RuntimeWarning,
            stacklevel=2,
        )


_warn_of_two_decords()
decord.logging.set_level(decord.logging.FATAL)  # reasons travel in exceptions; FFmpeg's own chatter helps nobody
av.logging.set_level(av.logging.PANIC)


_CHUNK = 64  # frames that decord decodes at a time on a walk


class _DecordVideo:
    def __init__(self, path: Path) -> None:
        listing = _refuse_where_inexact(path)
        self._reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(self._reader) != len(listing.stamps):  # it counts what an edit list leaves out
            raise _Inexact
        self.times = listing.seconds

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        wanted, place = np.unique(indices, return_inverse=True)  # in order and once: one walk through the file
        return self._reader.get_batch(wanted.tolist()).asnumpy()[place]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            yield from zip(chunk.tolist(), self.frames(chunk), strict=True)

    def close(self) -> None:
        vars(self).pop("_reader", None)


class _WithFallback:
    """One decoder as long as it can, then the other."""

    def __init__(self, path: Path, decoder: Decoder, deinterlace: Deinterlace, tone_map: ToneMap) -> None:
        self._path = path
        self._openers: dict[Decoder, Callable[[Path], Video]] = {
            "PyAV": partial(open_reader, deinterlace=deinterlace, tone_map=tone_map),
            "decord": _DecordVideo,
        }
        self._reasons: dict[str, str] = {}
        self._left = [decoder, *(name for name in DECODERS if name != decoder)]
        self._video = self._next()
        self.times = self._video.times

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        try:
            return self._video.frames(indices, short_side_px)
        except Exception as error:
            self._change(error)
        return self.frames(indices, short_side_px)

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        done = 0
        try:
            for place, picture in self._video.pictures(places, short_side_px):
                yield place, picture
                done += 1
            return
        except Exception as error:
            self._change(error)
        yield from self.pictures(places[done:], short_side_px)

    def close(self) -> None:
        self._video.close()

    @property
    def decoder(self) -> Decoder:
        """Which decoder reads the file now."""
        return self._name

    def _change(self, error: Exception) -> None:
        """Goes on with the other decoder after an error: decord raises its own, IndexError, OSError, ..."""
        self._note(error)
        if self._name == "PyAV":  # damage is final: decord would patch it up with pieces of other frames
            raise self._failure() from error
        self._video.close()
        self._video = self._next()
        if len(self._video.times) != len(self.times):  # it would take other frames for these
            raise self._failure()

    def _next(self) -> Video:
        while self._left:
            self._name = self._left.pop(0)
            try:
                return self._openers[self._name](self._path)
            except NoVideo as error:
                if self._name == "PyAV":  # which knows more than decord of what is a video
                    raise DecodeError(self._path, str(error)) from error
            except _Inexact:
                continue
            except Exception as error:
                self._note(error)
        raise self._failure()

    def _note(self, error: Exception) -> None:
        self._reasons[self._name] = reason_of(error)

    def _failure(self) -> DecodeError:
        reasons = dict.fromkeys(self._reasons.values())
        names = {why: " and ".join(name for name, of in self._reasons.items() if of == why) for why in reasons}
        return DecodeError(self._path, "; ".join(f"{why} ({names[why]})" for why in reasons))


class _Inexact(Exception):
    """decord reads such files, and gives wrong frames."""


_INDEXED = {"mov", "mp4", "matroska", "webm", "flv", "gif"}
_EXACT = {"h264", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "gif"}


def _refuse_where_inexact(path: Path) -> PacketIndex:
    """Raise `_Inexact` for what decord reads without an error, but not as it was asked; return the packet index.

    It seeks to other frames in AVI, MPEG program and transport streams and WMV, with HEVC, MPEG-4 part 2 and MPEG-2, in
    open groups of pictures and where timestamps are missing or wrong; it counts frames that an edit list leaves out,
    and pictures that are never shown; it stretches what changes size; it neither mirrors, nor deinterlaces, nor maps
    tones, nor makes pixels square.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        assert stream is not None  # else `open_container` raises
        codec = stream.codec_context
        formats = set(container.format.name.split(","))
        if not formats & _INDEXED or codec.name not in _EXACT or sane_aspect(stream.sample_aspect_ratio or 1) != 1:
            raise _Inexact
        listing = from_packets(container, stream)
        is_in_doubt = listing.by_number or (codec.has_b_frames and not listing.is_reordered)
        if is_in_doubt or listing.packets is None or len(listing.packets) != len(listing.stamps):
            raise _Inexact
        keyframes = [packet for packet in listing.packets if packet.is_keyframe]
        may_change_size = any(has_parameter_sets(packet, codec) for packet in keyframes[1:])
        if any(is_recovery_point(packet, codec) for packet in keyframes):
            raise _Inexact
        may_change_size = may_change_size or len({size_header(packet, codec.name) for packet in keyframes}) > 1
        if may_change_size or listing.carries_state or _has_open_groups(listing.packets):
            raise _Inexact
        frame = next(iter([*codec.decode(listing.packets[0]), *codec.decode(None)]), None)
        if frame is None or frame.interlaced_frame or is_hdr(frame.color_trc) or orientation_of(frame).mirror:
            raise _Inexact
        return listing


def _has_open_groups(packets: list[av.Packet]) -> bool:
    """Whether a frame that is decoded after a keyframe is shown before it."""
    latest = -(2**63)
    for packet in packets:
        if packet.pts is None or packet.pts < latest:
            return True
        if packet.is_keyframe:
            latest = packet.pts
    return False


DECODERS: dict[Decoder, Callable[[Path], Video]] = {"PyAV": open_reader, "decord": _DecordVideo}


@contextmanager
def open_video(
    path: str | Path, decoder: Decoder = "PyAV", *, deinterlace: Deinterlace = "auto", tone_map: ToneMap = "auto"
) -> Iterator[Video]:
    """Opens a video file for the length of a `with` block.

    Args:
        path: the file.
        decoder: what is tried first.
        deinterlace: "auto" deinterlaces frames that say that they are interlaced, "off" none.
        tone_map: "auto" converts HDR pictures (HLG and PQ) to BT.709, "off" none.

    Raises:
        DecodeError: for a file that is missing, empty, or that no decoder can open, and inside the block from
            `frames`, for frames that no decoder can read.
    """
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from error
    if size is None:
        raise DecodeError(path, "it is no file" if path.exists() else "there is no such file")
    if size == 0:
        raise DecodeError(path, "the file is empty")
    video = _WithFallback(path, decoder, deinterlace, tone_map)
    try:
        yield video
    finally:
        video.close()
