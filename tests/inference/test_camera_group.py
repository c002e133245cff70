from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, VideoError
from farfield.inference import camera_group
from farfield.inference.camera_group import CameraGroup, CameraWindow, open_cameras
from farfield.inference.camera_options import CameraOptions
from streams import Broadcast, write_levels

SPEC = ClipSpec(num_frames=4, crop_px=48, frame_stride=2, short_side_px=48)  # spans 7 frames


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A transport stream of 4 seconds, 25 frames a second, each 2 brighter than the one before."""
    return write_levels(tmp_path_factory.mktemp("stream") / "a.ts", range(20, 220, 2)).read_bytes()


def watch(
    group: CameraGroup, until: Callable[[list[CameraWindow]], bool], *, most: int = 8, step_seconds: float = 0
) -> list[list[CameraWindow]]:
    """Take windows until `until` is true of them, or for 20 seconds; each step takes some time to be scored."""
    steps: list[list[CameraWindow]] = []
    end = time.monotonic() + 20
    while time.monotonic() < end and not group.has_ended and not until([each for step in steps for each in step]):
        steps.append(group.next_windows(most, 0.2))
        time.sleep(step_seconds)
    return steps


@pytest.mark.slow
def test_an_interrupted_stream_comes_back(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    half = len(stream) // 2 // 188 * 188
    server = Broadcast([(stream[:half], 2.0), (b"", 0), (stream, 4.0)])  # the second client gets nothing
    options = CameraOptions(hop_seconds=0.2, reconnect_seconds=0.2, max_reconnect_seconds=0.3)
    with open_cameras([f"front={server.url}"], SPEC, options) as group:
        [camera] = group.cameras
        steps = watch(group, lambda found: len(found) > 3 and found[-1].window.frames.float().mean() > 190)
        connected = camera.now()
    windows = [each.window for step in steps for each in step]
    levels = [window.frames[0].float().mean((1, 2, 3)).numpy() for window in windows]
    for each in levels:
        np.testing.assert_allclose(np.diff(each), 4, atol=1.6)  # frames of one connection, one after the other
    back = next(i for i, (a, b) in enumerate(pairwise(levels), 1) if b[0] < a[0])
    assert windows[back].start_seconds - windows[back - 1].end_seconds >= 0.2  # it was gone for two waiting times
    assert windows[-1].end_seconds < connected + 0.5
    starts = [window.start_seconds for window in windows]
    assert starts == sorted(starts)
    first, second = (record.message for record in caplog.records if "the stream" in record.message)
    assert first == "front: the stream has ended. Trying to open the stream again until it succeeds."
    assert second.startswith("front: the stream is back after ")
    waits = np.diff(server.accepted)
    assert waits[1] >= 0.28  # 0.2 seconds, doubled, at most 0.3


@pytest.mark.slow
def test_cameras_take_fair_turns_in_one_batch(stream: bytes) -> None:
    servers = [Broadcast([(stream, 4.0)]) for _ in range(3)]
    options = CameraOptions(hop_seconds=0.1, reconnect="never")
    with open_cameras([each.url for each in servers], SPEC, options) as group:
        steps = watch(group, lambda found: False, step_seconds=0.25)
    assert max(len(step) for step in steps) == 3
    count = Counter(each.camera.name for step in steps for each in step)
    assert len(count) == 3
    assert max(count.values()) - min(count.values()) <= 3
    skipped = Counter[str]()
    for step in steps:
        assert len({each.camera.name for each in step}) == len(step)
        for each in step:
            skipped[each.camera.name] += each.skipped
    assert all(skipped[name] > count[name] / 2 for name in count)  # 0.25 seconds a step, 0.1 a window


@pytest.mark.slow
def test_small_batches_go_round(stream: bytes) -> None:
    """Three cameras always have a new window; two are taken in a step, and the third comes first in the next."""
    servers = [Broadcast([(stream, 3.0)]) for _ in range(3)]
    options = CameraOptions(hop_seconds=0.04, reconnect="never")
    with open_cameras([each.url for each in servers], SPEC, options) as group:
        deadline = time.monotonic() + 10
        while not all(camera.is_due for camera in group.cameras) and time.monotonic() < deadline:
            time.sleep(0.02)
        taken = []
        for _ in range(3):
            time.sleep(0.25)  # each has new frames
            taken.append([group.cameras.index(each.camera) for each in group.next_windows(2)])
    assert taken == [[0, 1], [2, 0], [1, 2]]


@pytest.mark.slow
def test_skipped_windows_are_said(
    stream: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_group, "SECONDS_BETWEEN_WARNINGS", 1.2)
    with open_cameras([Broadcast([(stream, 2.0)]).url], SPEC, CameraOptions(0.04, reconnect="never")) as group:
        watch(group, lambda found: False, step_seconds=0.3)
    said = [record.message for record in caplog.records if "slower" in record.message]
    assert len(said) == 1
    assert said[0].startswith("scoring is slower than the cameras: ")


@pytest.mark.slow
def test_of_several_one_may_be_missing_at_first(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    sources = [Broadcast([(stream, 1.0)]).url, "lost=tcp://127.0.0.1:9"]
    with open_cameras(sources, SPEC, CameraOptions(reconnect_seconds=0.1, max_reconnect_seconds=0.1)) as group:
        steps = watch(group, lambda found: len(found) >= 2, step_seconds=0.3)
    assert {each.camera.name for step in steps for each in step} == {sources[0]}
    lost = [record.message for record in caplog.records if record.message.startswith("lost")]
    assert len(lost) == 1
    assert lost[0].startswith("lost: Connection refused")
    assert lost[0].endswith(". Trying to open the stream again until it succeeds.")
    with (
        pytest.raises(VideoError, match="lost: Connection refused"),
        open_cameras(sources[1:], SPEC, CameraOptions()),
    ):
        pass
    with (
        pytest.raises(VideoError, match="lost: Connection refused"),
        open_cameras(["a=tcp://127.0.0.1:9", sources[1]][::-1], SPEC, CameraOptions(reconnect="never")),
    ):
        pass


@pytest.mark.slow
def test_a_recording_ends_unless_it_is_to_be_repeated(stream: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(stream)
    with open_cameras([str(tmp_path / "a.ts")], SPEC, CameraOptions()) as group:
        watch(group, lambda found: False)
        assert group.has_ended
        assert group.cameras[0].error is None
        assert group.next_windows(8) == []
    options = CameraOptions(reconnect="always", reconnect_seconds=0.05, max_reconnect_seconds=0.05)
    with open_cameras([str(tmp_path / "a.ts")], SPEC, options) as group:
        steps = watch(group, lambda found: len(found) > 3 and found[-1].window.start_seconds > 8)
        assert not group.has_ended
    starts = [each.window.start_seconds for step in steps for each in step]
    assert starts == sorted(starts)
    assert starts[-1] > 8  # of a recording of 4 s


@pytest.mark.slow
def test_damaged_parts_are_left_out(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Zeros in the middle of the stream: frames are lost there, but it goes on to its end."""
    middle = len(stream) // 2 // 188 * 188
    damaged = stream[:middle] + bytes(188 * 20) + stream[middle + 188 * 20 :]
    with open_cameras([Broadcast([(damaged, 2.0)]).url], SPEC, CameraOptions(0.1, reconnect="never")) as group:
        steps = watch(group, lambda found: False)
        assert group.cameras[0].error is None
    assert max(each.window.frames.float().mean() for step in steps for each in step) > 190


def test_waiting_for_a_camera_ends_at_once(tmp_path: Path) -> None:
    """Waiting to reconnect for a minute."""
    options = CameraOptions(reconnect_seconds=60)
    with open_cameras(["a=tcp://127.0.0.1:9", "b=tcp://127.0.0.1:9"], SPEC, options) as group:
        assert group.next_windows(8, 0.3) == []
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera ")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reconnect": "allways"}, r"reconnect is 'allways'. Known: auto, always, never. Did you mean 'always'\?"),
        ({"reconnect_seconds": 0}, "reconnect_seconds is 0; both must be positive"),
        ({"timeout_seconds": -1}, "timeout_seconds is -1 and"),
        ({"max_reconnect_seconds": 0.5}, r"max_reconnect_seconds is 0.5; it must be at least reconnect_seconds, 1.0"),
        ({"hop_seconds": 0}, "hop_seconds is 0; it must be positive"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        CameraOptions(**options)
