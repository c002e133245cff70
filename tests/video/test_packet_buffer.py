from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from farfield.video.packet_buffer import PacketBuffer, StoredPacket


def packet(number: int, *, keyframe: bool, size: int = 10) -> StoredPacket:
    """A packet of a stream with a frame a second."""
    return StoredPacket(bytes([number % 251]) * size, number, number, 1, Fraction(1), keyframe, number, number)


@pytest.mark.parametrize("seed", range(50))
def test_it_holds_what_it_should_and_no_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds, most = float(rng.integers(1, 20)), int(rng.integers(60, 400))
    buffer = PacketBuffer(seconds, most)
    packets: list[StoredPacket] = []
    for number in range(120):
        packets.append(packet(number, keyframe=bool(rng.random() < 0.2), size=int(rng.integers(5, 30))))
        buffer.add(packets[-1])
        held = buffer.since(-1)
        assert held == packets[len(packets) - len(held) :] or not held  # the newest, without gaps
        assert buffer.bytes == sum(len(each.data) for each in held) <= most
        assert not held or held[0].is_keyframe
        keyframes = [each.seconds for each in held if each.is_keyframe]
        assert all(later > number - seconds for later in keyframes[1:])  # one keyframe at most is older


def test_old_groups_are_dropped_whole() -> None:
    buffer = PacketBuffer(7, 10_000)
    for number in range(30):
        buffer.add(packet(number, keyframe=number % 5 == 0))
        expected = max((number - 7) // 5 * 5, 0)  # the last keyframe at least 7 seconds old
        assert [each.dts for each in buffer.since(-1)] == list(range(expected, number + 1))


def test_a_group_that_is_too_large_is_dropped_until_the_next_keyframe() -> None:
    buffer = PacketBuffer(100, 55)
    for number in range(12):
        buffer.add(packet(number, keyframe=number in (0, 8)))
        if 5 <= number < 8:
            assert len(buffer) == buffer.bytes == 0
    assert [each.dts for each in buffer.since(0)] == [8, 9, 10, 11]


def test_since_starts_at_the_keyframe_before() -> None:
    buffer = PacketBuffer(100, 10_000)
    for number in range(20):
        buffer.add(packet(number, keyframe=number in (3, 8, 13)))
    assert [each.dts for each in buffer.since(12.9)] == list(range(8, 20))
    assert [each.dts for each in buffer.since(13)] == list(range(13, 20))
    assert [each.dts for each in buffer.since(1)] == list(
        range(3, 20)
    )  # packets before the first keyframe are not held
    buffer.clear()
    assert buffer.since(0) == []
    assert len(buffer) == buffer.bytes == 0
