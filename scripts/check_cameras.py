"""Watch two generated cameras for an hour, one of which is interrupted three times, and check alarms, clips and memory.

    python scripts/check_cameras.py --minutes 60
    python scripts/check_cameras.py --minutes 3 --json

`farfield predict --live` watches the cameras with a small network that knows bright from dark, with an alarm for each.
The cameras are bright now and then, at known times of day. Their servers run on the loopback interface: RTSP by
GStreamer if the system's Python has it (see rtsp_camera.py), otherwise MPEG-TS by HTTP. The second server is killed
three times, and started again later.

Exit status 1 if an alarm is lost that was on screen for longer than a window (while the camera was connected), an alarm
has no cause, no end or no clip, the process fails, or its resident memory after a tenth of the time and at the end
differ by more than 5%.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import IO, Any

import av
import numpy as np
import torch

from farfield import build_model, save_model

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"
WINDOW_SECONDS, HOP_SECONDS, GAP_SECONDS = 2.0, 0.5, 1.0
CAMERAS = ("steady", "interrupted")
INTERRUPTIONS = 3
MAX_GROWTH = 0.05
"""Of resident memory, as a share."""
FAULTS = (
    "alarms_lost",
    "alarms_without_cause",
    "alarms_without_end",
    "clips_missing",
    "clips_without_a_bright_frame",
)
"""Entries of the result that must be empty or 0."""
SLACK_SECONDS = 1.5
"""Tolerance of times: a stream is opened, encoded and decoded before a frame of it is seen."""

Interval = tuple[float, float]


def save_brightness_network(path: Path) -> None:
    """Save a small multilabel network with random features, whose classifier is set for bright and dark."""
    torch.manual_seed(11)
    clip: Any = {"num_frames": 8, "crop_px": 24, "frame_stride": 2}
    model = build_model("tiny", labels=["bright", "dark"], task="multilabel", clip=clip).eval()
    levels = torch.tensor([25.0, 230.0]).view(2, 1, 1, 1, 1).expand(2, 3, 8, 24, 24)
    with torch.no_grad():
        dark, bright = model.head.pool(model.backbone((levels / 255 - 0.45) / 0.225)).flatten(1)
        direction = 10 * (bright - dark) / (bright - dark).square().sum()
        middle = direction @ (bright + dark) / 2
        model.head.fc.weight.copy_(torch.stack([direction, -direction]))
        model.head.fc.bias.copy_(torch.stack([-middle, middle]))
    save_model(model, path)


def draw_schedule(begin: float, seconds: float, rng: np.random.Generator) -> list[Interval]:
    """Draw the times at which a camera is bright: 2.5 to 8 seconds, with pauses of 5 to 12 seconds."""
    intervals: list[Interval] = []
    now = begin + rng.uniform(8, 12)
    while now + 8 < begin + seconds:
        length = rng.uniform(2.5, 8)
        intervals.append((now, now + length))
        now += length + rng.uniform(5, 12)
    return intervals


def has_rtsp_server() -> bool:
    """Return whether the system's Python has GStreamer's RTSP server."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return (
        Path(SYSTEM_PYTHON).exists()
        and not subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True).returncode
    )


@dataclass
class Server:
    """A camera's server, which can be killed and started again on the same port.

    Attributes:
        interruptions: times of day at which it was killed, and was ready again.
    """

    kind: str
    schedule: Path
    port: int = 0
    interruptions: list[list[float]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"{self.kind}://127.0.0.1:{self.port}/camera"

    def start(self) -> None:
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        python = SYSTEM_PYTHON if self.kind == "rtsp" else sys.executable
        command = [python, str(HERE / f"{self.kind}_camera.py"), str(self.port), str(self.schedule)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"the {self.kind} server did not start.")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def interrupt(self, seconds: float) -> None:
        self.kill()
        self.interruptions.append([time.time(), float("inf")])
        time.sleep(seconds)
        self.start()


@dataclass
class Watcher:
    """The process of `farfield predict --live`, its alarms, its messages, and its memory over time."""

    process: subprocess.Popen[str]
    alarms: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    messages: list[tuple[float, str]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def listen(self) -> list[threading.Thread]:
        """Start to read what it prints."""

        def read(file: IO[str], keep: Any) -> None:
            for line in file:
                keep(line)

        assert self.process.stdout is not None
        assert self.process.stderr is not None
        readers = [
            (self.process.stdout, lambda line: self.alarms.append((time.time(), json.loads(line)))),
            (self.process.stderr, lambda line: self.messages.append((time.time(), line.rstrip()))),
        ]
        threads = [threading.Thread(target=read, args=each, daemon=True) for each in readers]
        for thread in threads:
            thread.start()
        return threads

    def measure(self) -> None:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        self.memory.append((time.time(), pages * 4096))


def watch(servers: dict[str, Server], folder: Path, begin: float, seconds: float) -> tuple[Watcher, int]:
    """Watch the cameras for some time, and interrupt the second; return what was seen, and the exit status."""
    command = [sys.executable, "-m", "farfield", "predict", "--live"]
    command += [f"{name}={server.url}" for name, server in servers.items()]
    command += [f"--checkpoint={folder / 'brightness.ckpt'}", f"--window_seconds={WINDOW_SECONDS}"]
    command += [f"--hop_seconds={HOP_SECONDS}", f"--alarm_gap_seconds={GAP_SECONDS}", "--max_reconnect_seconds=4"]
    command += ["--alarms=-", f"--clips={folder / 'clips'}", "--clip_seconds_before=2", "--clip_seconds_after=2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
    watcher = Watcher(process)
    threads = watcher.listen()
    cuts = [begin + seconds * (i + 1) / (INTERRUPTIONS + 1) for i in range(INTERRUPTIONS)]
    while time.time() < begin + seconds and process.poll() is None:
        if cuts and time.time() >= cuts[0]:
            cuts.pop(0)
            servers["interrupted"].interrupt(min(3 + 2 * len(cuts), seconds / 30))
        watcher.measure()
        time.sleep(min(seconds / 200, 5))
    process.send_signal(signal.SIGINT)
    try:
        status = process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        status = -1
    for thread in threads:
        thread.join()
    return watcher, status


def note_returns(server: Server, name: str, watcher: Watcher) -> None:
    """End each interruption when the watcher says that the stream is back."""
    returns = [at for at, line in watcher.messages if f"{name}: the stream is back" in line]
    for cut in server.interruptions:
        cut[1] = next((at for at in returns if at > cut[0]), float("inf"))


def on_screen(interval: Interval, cuts: list[list[float]]) -> list[Interval]:
    """Return the parts of an interval outside of the interruptions."""
    parts = [interval]
    for cut_start, cut_end in cuts:
        parts = [
            piece
            for start, end in parts
            for piece in ((start, min(end, cut_start)), (max(start, cut_end), end))
            if piece[1] > piece[0]
        ]
    return parts


def times_of(event: dict[str, Any]) -> Interval:
    """Return the start and end of an alarm's end event as seconds since 1970."""
    start, end = (datetime.fromisoformat(event[name]).timestamp() for name in ("start_utc", "end_utc"))
    return start, end


def overlaps(a: Interval, b: Interval, slack: float) -> bool:
    return a[0] < b[1] + slack and b[0] < a[1] + slack


def compare(watcher: Watcher, servers: dict[str, Server], schedules: dict[str, list[Interval]]) -> dict[str, Any]:
    """Compare the alarms with the truth."""
    events = [event for _, event in watcher.alarms]
    ends = [event for event in events if event["event"] == "end" and event["label"] == "bright"]
    starts = [(at, event) for at, event in watcher.alarms if event["event"] == "start"]
    lost, causeless, delays, expected = [], [], [], 0
    for name, schedule in schedules.items():
        begin = min((at for at, event in starts if event["source"] == name), default=float("inf"))  # the first is dark
        cuts = [[0.0, begin], *servers[name].interruptions]
        alarms = [times_of(event) for event in ends if event["source"] == name]
        for interval in schedule:
            for part in on_screen(interval, cuts):
                if part[1] - part[0] <= WINDOW_SECONDS:
                    continue
                expected += 1
                if not any(overlaps(part, alarm, 0.0) for alarm in alarms):
                    lost.append({"source": name, "start": part[0], "end": part[1]})
        for alarm in alarms:
            if not any(overlaps(alarm, interval, SLACK_SECONDS) for interval in schedule):
                causeless.append({"source": name, "start": alarm[0], "end": alarm[1]})
        for at, event in starts:
            if event["source"] == name and event["label"] == "bright":
                delays.append(at - max((start for start, _ in schedule if start <= at), default=at))
    started = {event["alarm"] for _, event in starts}
    unfinished = started - {event["alarm"] for event in events if event["event"] == "end"}
    clips = [event for event in events if event["event"] == "clip"]
    missing = [event["error"] for event in clips if event["clip"] is None] + ["none"] * (len(started) - len(clips))
    return {
        "alarms_expected": expected,
        "alarms": len(started),
        "alarms_lost": lost,
        "alarms_without_cause": causeless,
        "alarms_without_end": len(unfinished),
        "clips_missing": missing,
        "clips_without_a_bright_frame": sum(
            not shows_bright(event["clip"]) for event in clips if event["clip"] and event["label"] == "bright"
        ),
        "delay_seconds_median": round(median(delays), 2) if delays else None,
        "delay_seconds_most": round(max(delays), 2) if delays else None,
    }


def shows_bright(path: str) -> bool:
    """Return whether a clip decodes, and has a bright frame."""
    with av.open(path) as container:
        return max(float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)) > 128


def growth(memory: list[tuple[float, int]]) -> tuple[float, float, float]:
    """Return megabytes after the first tenth and at the end, medians of a tenth of the samples each, and the growth."""
    part = max(len(memory) // 10, 1)
    early, late = (median(size for _, size in each) / 2**20 for each in (memory[part : 2 * part], memory[-part:]))
    return early, late, late / early - 1


def check(kind: str, seconds: float, seed: int) -> dict[str, Any]:
    """Watch two cameras for some time, and return what was found.

    Args:
        kind: "rtsp" or "http".
        seconds: how long.
        seed: seed of the times at which the cameras are bright.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_brightness_network(folder / "brightness.ckpt")
        rng = np.random.default_rng(seed)
        begin = time.time()
        schedules = {camera: draw_schedule(begin, seconds, rng) for camera in CAMERAS}
        servers = {camera: Server(kind, folder / f"{camera}.json") for camera in CAMERAS}
        try:
            for camera, server in servers.items():
                server.schedule.write_text(json.dumps(schedules[camera]))
                server.start()
            watcher, status = watch(servers, folder, begin, seconds)
        finally:
            for server in servers.values():
                server.kill()
        note_returns(servers["interrupted"], "interrupted", watcher)
        result = {"server": kind, "minutes": seconds / 60, "exit_status": status}
        result |= compare(watcher, servers, schedules)
    early, late, more = growth(watcher.memory)
    cuts = servers["interrupted"].interruptions
    result |= {"resident_mb_early": round(early, 1), "resident_mb_late": round(late, 1), "growth": round(more, 4)}
    result |= {"interruptions": len(cuts), "returns": sum(cut[1] < float("inf") for cut in cuts)}
    result |= {"messages": [line for _, line in watcher.messages]}
    return result | {"ok": is_ok(result)}


def is_ok(result: dict[str, Any]) -> bool:
    """Return whether the process ended well, its memory did not grow, and no alarm or clip is wrong."""
    return (
        result["exit_status"] == 0
        and result["growth"] <= MAX_GROWTH
        and result["interruptions"] == result["returns"] == INTERRUPTIONS
        and result["alarms_expected"] > 0
        and not any(result[name] for name in FAULTS)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--server", choices=["auto", "rtsp", "http"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kind = ("rtsp" if has_rtsp_server() else "http") if given.server == "auto" else given.server
    result = check(kind, 60 * given.minutes, given.seed)
    print(json.dumps(result, indent=2) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
