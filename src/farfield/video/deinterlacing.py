"""Deinterlacing with FFmpeg's bwdif filter.

An interlaced frame holds two fields, the even and the odd lines, taken at different moments. Moving objects therefore
have comb-like edges, which networks are not trained on. bwdif interpolates the missing lines of a field from the same
and the neighbouring frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

import av
from av.filter import Graph
from av.video.frame import VideoFrame

Deinterlace = Literal["auto", "off"]


def deinterlaced(
    frames: Iterable[tuple[int, VideoFrame]], *, both_fields: bool = False
) -> Iterator[tuple[int, VideoFrame]]:
    """Deinterlace the frames that are marked as interlaced; yield all other frames unchanged.

    Args:
        frames: (place, frame) pairs with ascending places, which are indices in display order. For each frame that you
            need, also give the frames directly before and after it, since the deinterlaced picture depends on them.
        both_fields: yield two pictures for each interlaced frame, one per field, instead of one.

    Yields:
        (place, picture). With `both_fields`, the two pictures of an interlaced frame have the same place.
    """
    graph: Graph | None = None
    kind: tuple[object, ...] = ()
    last = -2
    for place, frame in frames:
        its_kind = (frame.width, frame.height, frame.format.name)
        if graph is None or place != last + 1 or its_kind != kind:
            if graph is not None:
                yield from _drain(graph)
            graph, kind = _graph(frame, both_fields), its_kind
        frame.pts, frame.time_base = place, _TIME_BASE
        graph.vpush(frame)
        last = place
        yield from _pull(graph)
    if graph is not None:
        yield from _drain(graph)


_TIME_BASE = Fraction(1, 1000)
"""Time base of the frames given to bwdif. Its value is arbitrary, since the timestamp of each frame is its place.

bwdif doubles the timestamps in its output.
"""


def _graph(frame: VideoFrame, both_fields: bool) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TIME_BASE)
    mode = "send_field" if both_fields else "send_frame"
    graph.link_nodes(source, graph.add("bwdif", f"mode={mode}:parity=auto:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> Iterator[tuple[int, VideoFrame]]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield (frame.pts or 0) // 2, frame


def _drain(graph: Graph) -> Iterator[tuple[int, VideoFrame]]:
    graph.vpush(None)
    yield from _pull(graph)
