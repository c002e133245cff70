"""Alarms and their clips, from streams on the loopback interface, by the Python function and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from farfield.errors import FarfieldError, VideoError
from farfield.inference.alarm_events import AlarmEvent
from farfield.inference.alarm_options import AlarmOptions, ClipOptions
from farfield.inference.camera_options import CameraOptions
from farfield.inference.predict_live import LivePrediction, predict_cameras
from farfield.models.network import ActionNet
from multilabel import brightness_network
from streams import Broadcast, packets_of, write_levels

LEVELS = [25] * 75 + [230] * 50 + [25] * 75
"""Three seconds dark, two bright, three dark."""


@pytest.fixture(scope="module")
def network() -> ActionNet:
    network = brightness_network()
    with torch.inference_mode():
        network(torch.zeros(2, 3, 4, 24, 24))  # the first pass takes longer
    return network


@pytest.fixture(scope="module")
def checkpoint(network: ActionNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from farfield import save_model

    path = tmp_path_factory.mktemp("network") / "brightness.ckpt"
    save_model(network, path)
    return path


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("stream") / "a.ts", LEVELS, bf="2", g="10")


@pytest.fixture(scope="module")
def short_stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second dark, two bright, two dark."""
    levels = [25] * 25 + [230] * 50 + [25] * 50
    return write_levels(tmp_path_factory.mktemp("short") / "a.ts", levels, bf="2", g="10")


def events_of(found: list[LivePrediction | AlarmEvent]) -> list[AlarmEvent]:
    return [each for each in found if isinstance(each, AlarmEvent)]


def contains(whole: list, part: list) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


@pytest.mark.slow
def test_an_alarm_starts_ends_and_has_its_clip(network: ActionNet, stream: Path, tmp_path: Path) -> None:
    begin = datetime.now(UTC)
    found = list(
        predict_cameras(
            [f"front={Broadcast([(stream.read_bytes(), 8.0)]).url}"],
            network,
            options=CameraOptions(hop_seconds=0.2, reconnect="never"),
            alarms=AlarmOptions(labels=["bright"], gap_seconds=1.5),
            clips=ClipOptions(tmp_path / "clips", seconds_before=1, seconds_after=1),
        )
    )
    start, end, clip = events_of(found)
    assert [start.event, end.event, clip.event] == ["start", "end", "clip"]
    assert {each.alarm for each in (start, end, clip)} == {1}
    assert {(each.source, each.label) for each in (start, end, clip)} == {("front", "bright")}
    assert start.start_seconds == end.start_seconds == clip.start_seconds
    assert 2.6 < start.start_seconds < 4.5  # windows that come while another is scored are skipped
    assert (start.end_seconds, start.end_utc, start.clip) == (None, None, None)
    assert end.end_seconds is not None
    assert start.start_seconds + 0.2 < end.end_seconds < 5.4
    assert 0.5 <= start.score <= end.score <= 1
    assert (start.start_utc - begin).total_seconds() == pytest.approx(start.start_seconds, abs=1)
    assert end.end_utc is not None
    assert (end.end_utc - end.start_utc).total_seconds() == pytest.approx(end.end_seconds - end.start_seconds, abs=1e-3)
    # The start is told in time, among the predictions.
    at = found.index(start)
    assert isinstance(found[at - 1], LivePrediction)
    assert found[at - 1].start_seconds == start.start_seconds
    # The clip is a part of the stream, packet by packet, from the keyframe before to the time after.
    assert clip.clip is not None
    assert clip.clip_start_seconds is not None
    assert clip.clip_end_seconds is not None
    assert 0 <= start.start_seconds - 1 - clip.clip_start_seconds < 0.4 + 0.01  # a keyframe every 10 frames
    # The last packets come in decoding order: with three B-frames a P-frame may end four frames later.
    assert -0.01 <= clip.clip_end_seconds - (end.end_seconds + 1) <= 4 / 25 + 0.01
    assert contains(packets_of(stream), packets_of(clip.clip))
    assert packets_of(clip.clip)[0][1]
    assert [path.name for path in (tmp_path / "clips").iterdir()] == [Path(clip.clip).name]
    assert Path(clip.clip).name.endswith("Z_1_front_bright.mp4")
    with av.open(clip.clip) as container:
        levels = np.array([frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)])
    assert len(levels) / 25 == pytest.approx(clip.clip_end_seconds - clip.clip_start_seconds, abs=0.1)
    times = clip.clip_start_seconds + np.arange(len(levels)) / 25
    assert ((levels > 128) == ((times > 2.99) & (times < 4.99))).all()  # on the clock of the alarm


@pytest.mark.slow
def test_an_alarm_goes_on_over_a_short_break_and_its_clip_ends_there(network: ActionNet, tmp_path: Path) -> None:
    bright = write_levels(tmp_path / "bright.ts", [230] * 100)
    server = Broadcast([(bright.read_bytes(), 4.0), (bright.read_bytes(), 4.0)])
    stop = threading.Event()
    found: list[LivePrediction | AlarmEvent] = []
    for each in predict_cameras(
        [server.url],
        network,
        options=CameraOptions(hop_seconds=0.2, reconnect_seconds=0.1, max_reconnect_seconds=0.1),
        alarms=AlarmOptions(labels=["bright"], gap_seconds=4),
        clips=ClipOptions(tmp_path / "clips", seconds_before=0.5),
        stop=stop,
    ):
        found.append(each)
        if isinstance(each, AlarmEvent) and each.event == "end":
            stop.set()
    start, clip, end = events_of(found)
    assert [start.event, clip.event, end.event] == ["start", "clip", "end"]
    assert clip.end_seconds is None  # the alarm still goes on
    assert clip.clip is not None
    assert clip.clip_end_seconds == pytest.approx(4, abs=0.2)
    assert contains(packets_of(bright), packets_of(clip.clip))
    assert end.end_seconds is not None
    assert end.end_seconds - end.start_seconds > 5  # one alarm over both, ended when the stream stayed away
    assert end.score > 0.9


@pytest.mark.slow
def test_a_clip_has_a_maximum_length(network: ActionNet, stream: Path, tmp_path: Path) -> None:
    found = predict_cameras(
        [Broadcast([(stream.read_bytes(), 4.0)]).url],
        network,
        options=CameraOptions(hop_seconds=0.2, reconnect="never"),
        alarms=AlarmOptions(threshold=0.001, gap_seconds=30, labels=["picture"]),
        clips=ClipOptions(tmp_path, max_seconds=2.0),
    )
    start, clip, end = events_of(list(found))
    assert [start.event, clip.event, end.event] == ["start", "clip", "end"]
    assert clip.clip_start_seconds is not None
    assert clip.clip_end_seconds is not None
    assert clip.clip_end_seconds - clip.clip_start_seconds == pytest.approx(2, abs=0.2)
    assert end.end_seconds is not None
    assert end.end_seconds > 6


@pytest.mark.slow
def test_a_clip_that_cannot_be_written_is_told_and_nothing_stops(
    network: ActionNet, stream: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    found = []
    for each in predict_cameras(
        [Broadcast([(stream.read_bytes(), 4.0)]).url],
        network,
        options=CameraOptions(hop_seconds=0.2, reconnect="never"),
        alarms=AlarmOptions(labels=["bright"], gap_seconds=0.5),
        clips=ClipOptions(folder),
    ):
        if not found:
            folder.rmdir()  # while it runs
        found.append(each)
    clip = next(each for each in events_of(found) if each.event == "clip")
    assert clip.clip is None
    assert clip.error == "No such file or directory"
    assert len(found) > found.index(clip) + 1


@pytest.mark.slow
def test_the_command_prints_lines_and_ends_cleanly_on_ctrl_c(
    checkpoint: Path, short_stream: Path, tmp_path: Path
) -> None:
    """Two cameras, of which one stays bright: Ctrl-C ends its alarm, and finishes the clip."""
    bright = write_levels(tmp_path / "bright.ts", [230] * 500)
    servers = [Broadcast([(short_stream.read_bytes(), 5.0)]), Broadcast([(bright.read_bytes(), 20.0)])]
    command = [sys.executable, "-m", "farfield", "predict", "--live", f"a={servers[0].url}", f"b={servers[1].url}"]
    command += ["--checkpoint", str(checkpoint), "--json", "--hop_seconds", "0.2", "--alarm_gap_seconds", "3"]
    command += ["--alarms", str(tmp_path / "alarms.jsonl"), "--alarm_labels", "[bright]"]
    command += ["--clips", str(tmp_path / "clips"), "--clip_seconds_before", "1", "--clip_seconds_after", "0.5"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["source"] == "a" and lines[-1]["end_seconds"] > 4.5:
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    lines += [json.loads(line) for line in rest.splitlines()]
    assert {line["source"] for line in lines} == {"a", "b"}
    assert all(datetime.fromisoformat(line["start_utc"]).tzinfo is not None for line in lines)
    alarms = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    assert all(each["schema_version"] == 1 for each in alarms)
    for source in "ab":
        assert sorted(each["event"] for each in alarms if each["source"] == source) == ["clip", "end", "start"]
    clips = [each["clip"] for each in alarms if each["event"] == "clip"]
    assert sorted(map(str, (tmp_path / "clips").iterdir())) == sorted(clips)
    for path in clips:
        assert len(packets_of(path)) > 20


@pytest.mark.slow
def test_alarms_alone_are_printed(
    checkpoint: Path, short_stream: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "--live", "--checkpoint", checkpoint, "--reconnect", "never", "--hop_seconds", 0.2]
    before = signal.getsignal(signal.SIGINT)
    url = Broadcast([(short_stream.read_bytes(), 5.0)]).url
    assert run_farfield(*command, url, "--alarms", "-", "--threshold", 0.6, "--alarm_labels", "[bright]") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["start", "end"]
    assert [line["source"] for line in lines] == [url, url]
    assert signal.getsignal(signal.SIGINT) == before
    assert run_farfield("predict", short_stream, "--checkpoint", checkpoint, "--alarms", "-") == 2
    assert "--alarms and --clips only apply with --live." in capsys.readouterr().err
    assert run_farfield(*command, short_stream, "--alarms", short_stream.parent) == 2
    assert "cannot be written: Is a directory. Give another path." in capsys.readouterr().err


@pytest.mark.slow
def test_an_error_of_one_camera_is_raised_when_all_have_ended(network: ActionNet, stream: Path, tmp_path: Path) -> None:
    (tmp_path / "whole.ts").write_bytes(stream.read_bytes())
    sources = [str(tmp_path / "whole.ts"), f"b={http_cut(stream.read_bytes())}"]
    found: list[LivePrediction | AlarmEvent] = []
    with pytest.raises(VideoError, match="b: Input/output error"):
        found.extend(predict_cameras(sources, network, options=CameraOptions(reconnect="never")))
    assert {each.source for each in found} == {sources[0], "b"}


def http_cut(content: bytes) -> str:
    """Serve half of a file by HTTP to one client, though its whole length was promised; return its URL."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
    return Broadcast([(head + content[: len(content) // 2], 1.0)], protocol="http").url


def test_wrong_options(network: ActionNet, tmp_path: Path) -> None:
    with pytest.raises(FarfieldError, match="top_k is 0"):
        next(predict_cameras(["x"], network, top_k=0))
    with pytest.raises(FarfieldError, match=r"clips are given without alarms, .* Give alarms, or leave clips out\."):
        next(predict_cameras(["x"], network, clips=ClipOptions(tmp_path)))


@pytest.mark.slow
def test_windows_of_cameras_are_scored_as_those_of_one(network: ActionNet, stream: Path) -> None:
    """In one batch of two cameras, with the scores of each alone."""
    batches: list[int] = []
    cameras = [Broadcast([(stream.read_bytes(), 4.0)]) for _ in range(2)]

    def score(_: object, inputs: tuple[Tensor, ...]) -> None:
        batches.append(len(inputs[0]))
        if len(batches) == 1:  # takes so long that both cameras have a new window then, however late one began
            while not all(camera.accepted for camera in cameras):
                time.sleep(0.05)
            time.sleep(2)

    handle = network.register_forward_pre_hook(score)
    urls = [camera.url for camera in cameras]
    found = list(predict_cameras(urls, network, top_k=4, options=CameraOptions(hop_seconds=0.4, reconnect="never")))
    handle.remove()
    assert batches[1] == 2
    assert {each.source for each in found if isinstance(each, LivePrediction)} == set(urls)
    for each in found:
        assert isinstance(each, LivePrediction)
        by_label = {ranked.label: ranked.probability for ranked in each.ranking}
        if each.end_seconds < 2.9 or each.start_seconds > 5.1:
            assert by_label["dark"] > 0.9 > 0.1 > by_label["bright"]
        elif each.start_seconds > 3.1 and each.end_seconds < 4.9:
            assert by_label["bright"] > 0.9 > 0.1 > by_label["dark"]
