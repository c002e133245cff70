"""Benchmark of reading clips: encodings, decoders, one decode for many views, the loader. Ratios, measured in one run.

python scripts/benchmark_data.py clips/*.mp4                on videos of your own, about 5 minutes for eight of them
python scripts/benchmark_data.py                            on generated ones
python scripts/benchmark_data.py clips/*.mp4 --plot data.png
python scripts/benchmark_data.py clips/*.mp4 --frame_folders    folders of JPEG against a prepared store only

Each video is first scaled to a short side of 256 pixels without loss. A video shorter than 300 frames, the length of a
Kinetics clip, is extended by playing it forwards and backwards, so that keyframes 250 apart occur. All encodings are
made from this master. A clip is 8 frames at stride 8, from a random place, in RGB; the timing covers opening, decoding
and conversion. The encodings are interleaved in random order; results are medians over the clips of a video, then
geometric means over the videos.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from farfield import build_model
from farfield.clip_spec import ClipSpec
from farfield.curation.encoding import Encoding
from farfield.curation.transcode import transcode
from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.clips import training_clips
from farfield.data.datasets import TrainingClips
from farfield.data.manifest import Manifest
from farfield.data.samplers import EpochBatchSampler
from farfield.data.video_record import VideoRecord
from farfield.synthetic.synthesize import synthesize
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import DECODERS, open_video
from farfield.video.frame_folder import pictures_bytes
from farfield.video.pyav_decoder import PyAVVideo

NUM_FRAMES, STRIDE, LENGTH = 8, 8, 300
SPEC = ClipSpec(num_frames=NUM_FRAMES, frame_stride=STRIDE, crop_px=224, num_clips=10, num_crops=3)


class DefaultEncoding(Encoding):
    """x264's defaults, which nearly all collections use: keyframes up to 250 frames apart."""

    def x264(self) -> dict[str, str]:
        return {"crf": "23", "preset": "medium", "threads": "1"}


ENCODINGS: dict[str, Encoding] = {
    "x264's defaults": DefaultEncoding(),
    "prepared (default)": Encoding(),  # keyframe interval 64
    "prepared, compact": Encoding(keyframe_interval=128),
    **{f"keyframe interval {n}": Encoding(keyframe_interval=n) for n in (1, 4, 8, 16, 32, 250)},
    "interval 8, no B-frames": Encoding(keyframe_interval=8, b_frames=0),
}
BASE = "x264's defaults"


@dataclass
class StoredAs:
    """Results of one encoding relative to x264's defaults, geometric means over the videos.

    Attributes:
        encoding: its name.
        bytes: ratio.
        speed: ratio, both read by farfield.
        over_decord: ratio to decord on x264's defaults.
        by_decord: ratio, both read by decord.
        over_limit: time for a clip over that of opening the file and decoding just the frames that are needed.
        psnr_db: difference.
        clips_per_second: on one core.
    """

    encoding: str
    bytes: float
    speed: float
    over_decord: float
    by_decord: float
    over_limit: float
    psnr_db: float
    clips_per_second: float


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def make_master(source: Path, target: Path) -> None:
    """Write a lossless master at a short side of 256 with at least LENGTH frames."""
    plain = target.with_suffix(".plain.mp4")
    transcode(source, plain, Encoding(crf=0, preset="ultrafast", keyframe_interval=30, b_frames=0))
    with av.open(str(plain)) as container:
        stream = container.streams.video[0]
        rate, width, height = stream.average_rate, stream.width, stream.height
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(stream)]
    order = list(range(len(frames)))
    while len(order) < LENGTH:
        order += [*range(len(frames) - 2, 0, -1), *range(len(frames))]
    order = order[: max(LENGTH, len(frames))]
    with av.open(str(target), "w") as out:
        lossless: Any = out.add_stream("libx264", rate=rate, options={"crf": "0", "preset": "ultrafast", "g": "30"})
        lossless.width, lossless.height, lossless.pix_fmt = width, height, "yuv420p"
        for place in order:
            out.mux(lossless.encode(av.VideoFrame.from_ndarray(frames[place], format="yuv420p")))
        out.mux(lossless.encode(None))
    plain.unlink()


def random_places(path: Path, rng: np.random.Generator) -> np.ndarray:
    with open_video(path) as video:
        count = len(video.times)
    span = (NUM_FRAMES - 1) * STRIDE + 1
    return int(rng.integers(count - span + 1)) + np.arange(NUM_FRAMES) * STRIDE


def read(path: Path, places: np.ndarray, decoder: Decoder = "pyav") -> np.ndarray:
    with open_video(path, decoder) as video:
        return video.frames(places)


def limit(path: Path, places: np.ndarray) -> None:
    """Open the file and decode the clip's frames, without conversion."""
    video = PyAVVideo(path)
    for _ in video._decode(np.unique(places), jump=True):
        pass
    video.close()


def torchcodec_reader() -> Callable[[Path, np.ndarray], Any] | None:
    """Read with torchcodec, if it is installed and finds FFmpeg's libraries."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):
        return None
    return lambda path, places: (
        VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate").get_frames_at(places.tolist()).data
    )


def psnr(master: Path, encoded: Path) -> float:
    """Compute the peak signal-to-noise ratio of luma, in dB."""
    errors = []
    with av.open(str(master)) as a, av.open(str(encoded)) as b:
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            difference = x.to_ndarray()[: x.height].astype(float) - y.to_ndarray()[: y.height]
            errors.append(float(np.mean(difference**2)))
    return 10 * math.log10(255**2 / max(statistics.fmean(errors), 1e-3))


def timed(function: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


Files = dict[str, dict[str, Path]]
"""Encoding to video to file."""


def compare_encodings(
    masters: list[Path], folder: Path, clips: int
) -> tuple[list[StoredAs], dict[str, dict[str, Path]]]:
    files: Files = defaultdict(dict)
    quality: dict[tuple[str, str], float] = {}
    for master in tqdm(masters, "encode", unit="video"):
        for number, (name, encoding) in enumerate(ENCODINGS.items()):
            files[name][master.stem] = folder / f"{master.stem}_{number}.mp4"
            transcode(master, files[name][master.stem], encoding)
            quality[name, master.stem] = psnr(master, files[name][master.stem])
    seconds: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for master in tqdm(masters, "clips", unit="video"):
        for turn in range(clips + 1):
            places = random_places(files[BASE][master.stem], rng)
            for name in rng.permutation(list(ENCODINGS)).tolist():
                path = files[name][master.stem]
                took = {
                    "ours": timed(read, path, places),
                    "limit": timed(limit, path, places),
                    "decord": timed(read, path, places, "decord"),
                }
                if turn:  # the first is to warm up
                    for what, each in took.items():
                        seconds[name, master.stem, what].append(each)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = []
    for name in ENCODINGS:
        of = [(name, master.stem) for master in masters]
        base = [(BASE, master.stem) for master in masters]
        rows.append(
            StoredAs(
                name,
                geometric_mean([files[n][v].stat().st_size / files[BASE][v].stat().st_size for n, v in of]),
                geometric_mean([median[*b, "ours"] / median[*o, "ours"] for o, b in zip(of, base, strict=True)]),
                geometric_mean([median[*b, "decord"] / median[*o, "ours"] for o, b in zip(of, base, strict=True)]),
                geometric_mean([median[*b, "decord"] / median[*o, "decord"] for o, b in zip(of, base, strict=True)]),
                geometric_mean([median[*o, "ours"] / median[*o, "limit"] for o in of]),
                statistics.fmean(quality[o] - quality[b] for o, b in zip(of, base, strict=True)),
                geometric_mean([1 / median[*o, "ours"] for o in of]),
            )
        )
    return rows, files


def compare_decoders(files: dict[str, Path], clips: int) -> dict[str, float]:
    """Measure clips per second and core of each decoder, as the geometric mean over the videos."""
    readers: dict[str, Callable[[Path, np.ndarray], Any]] = {name: partial(read, decoder=name) for name in DECODERS}
    if torchcodec := torchcodec_reader():
        readers["torchcodec"] = torchcodec
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    rng = np.random.default_rng(1)
    for video, path in files.items():
        for _ in range(clips):
            places = random_places(path, rng)
            for name, reader in readers.items():
                seconds[name, video].append(timed(reader, path, places))
    return {name: geometric_mean([1 / statistics.median(seconds[name, v]) for v in files]) for name in readers}


def decoders_only(masters: list[Path], folder: Path, clips: int) -> dict[str, dict[str, float]]:
    """Measure clips per second and core of each decoder, and PyAV's ratio to decord, for two encodings."""
    about = {}
    for number, which in enumerate((BASE, "prepared (default)")):
        files = {master.stem: folder / f"{master.stem}_{number}.mp4" for master in masters}
        for master in tqdm(masters, f"encode, {which}", unit="video"):
            transcode(master, files[master.stem], ENCODINGS[which])
        speeds = compare_decoders(files, clips)
        about[which] = speeds | {"pyav_over_decord": speeds["pyav"] / speeds["decord"]}
    return about


def compare_frame_folders(masters: list[Path], folder: Path, clips: int) -> dict[str, float]:
    """Read clips from folders of JPEG (quality 90) and from a prepared store, in turns; compare CPU time and size."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    sizes = []
    rng = np.random.default_rng(2)
    for master in tqdm(masters, "clips", unit="video"):
        stored = {"prepared": folder / f"{master.stem}_prepared.mp4", "folder": folder / f"{master.stem}_frames"}
        transcode(master, stored["prepared"], Encoding())
        stored["folder"].mkdir()
        with open_video(master) as video:
            for place, frame in video.pictures(np.arange(len(video.times))):
                Image.fromarray(frame).save(stored["folder"] / f"img_{place + 1:05}.jpg", quality=90)
        sizes.append(pictures_bytes(stored["folder"]) / stored["prepared"].stat().st_size)
        for turn in range(clips + 1):
            places = random_places(stored["prepared"], rng)
            for name in rng.permutation(list(stored)).tolist():
                begin = time.process_time()
                with open_video(stored[name], fps=25) as video:
                    video.frames(places)
                if turn:  # the first is to warm up
                    seconds[name, master.stem].append(time.process_time() - begin)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    stems = [master.stem for master in masters]
    return {
        "speed_over_prepared": geometric_mean([median["prepared", s] / median["folder", s] for s in stems]),
        "lowest_speed_over_prepared": min(median["prepared", s] / median["folder", s] for s in stems),
        "clips_per_cpu_second": geometric_mean([1 / median["folder", s] for s in stems]),
        "bytes_over_prepared": geometric_mean(sizes),
    }


def compare_views(files: dict[str, Path], rounds: int) -> float:
    """Measure the speed-up of decoding the 30 views of a test together over opening and decoding them one by one."""
    ratios = []
    for path in files.values():
        with open_video(path) as video:
            count = len(video.times)
        starts = np.linspace(0, count - SPEC.span, SPEC.num_clips).round().astype(int)
        each = [start + np.arange(NUM_FRAMES) * STRIDE for start in starts for _ in range(SPEC.num_crops)]
        needed = np.unique(np.concatenate(each))
        one_by_one = [sum(timed(read, path, places) for places in each) for _ in range(rounds)]
        together = [timed(read, path, needed) for _ in range(rounds)]
        ratios.append(statistics.median(one_by_one) / statistics.median(together))
    return geometric_mean(ratios)


def consume(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


def loader_overhead(files: dict[str, Path], batches: int, rounds: int) -> dict[str, float]:
    """Measure a clip's time in a loader with one worker, relative to a plain loop of decode, crop and stack."""
    records = [VideoRecord(str(path), "x") for path in files.values()] * 4
    manifest = Manifest(records * math.ceil(8 * batches / len(records)), root="/")
    dataset = TrainingClips(manifest, ["x"], SPEC, Augmentation(), seed=0)
    order = EpochBatchSampler(len(manifest), 8, seed=0, position=lambda: (0, 0))
    loader = batch_loader(dataset, order, 1)

    def plain() -> None:
        for keys in order:
            loaded = []
            for key in keys:
                rng = np.random.default_rng(key.row)
                path, record = manifest.path(key.row), manifest[key.row]
                loaded += [clip.frames for clip in training_clips(path, record, SPEC, Augmentation(), [rng])]
            torch.stack(loaded)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    times: dict[str, list[float]] = {"plain": [], "loader": []}
    for turn in range(rounds + 1):
        took = {"plain": timed(plain), "loader": timed(consume, loader)}
        if turn:  # the first starts the worker
            for name, each in took.items():
                times[name].append(each)
    torch.set_num_threads(threads)
    pairs = zip(times["loader"], times["plain"], strict=True)
    plain_s = statistics.median(times["plain"])
    return {
        "overhead": statistics.median(a / b for a, b in pairs) - 1,
        "clips_per_second_per_core": len(order) * 8 / plain_s,
    }


def trainer_speed(backbone: str, device: str) -> float:
    """Measure the clips per second that training consumes, on all cores of this machine or its GPU."""
    model = build_model(backbone, num_classes=400).to(device).to(memory_format=torch.channels_last_3d)
    clips = torch.randn(2, 3, NUM_FRAMES, 224, 224, device=device).contiguous(memory_format=torch.channels_last_3d)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        model(clips).sum().backward()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 / min(times)


def plot(rows: list[StoredAs], path: Path) -> None:
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        prepared = row.encoding.startswith("prepared")
        axes.scatter(row.bytes, row.speed, s=60 if prepared else 25, color="C3" if prepared else "C0", zorder=3)
        right = row.bytes > 4
        axes.annotate(
            row.encoding,
            (row.bytes, row.speed),
            xytext=(-5 if right else 5, -11 if "no B" in row.encoding else 4),
            ha="right" if right else "left",
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bytes, times those of x264's defaults")
    axes.set_ylabel("clips per second, times those of x264's defaults")
    axes.set_xticks([1, 1.5, 2, 3, 5, 8], ["1", "1.5", "2", "3", "5", "8"], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, help="real videos; none for generated ones")
    parser.add_argument("--clips", type=int, default=20, help="clips of each video")
    parser.add_argument("--plot", type=Path, help="write a plot of bytes against speed")
    parser.add_argument("--backbone", default="i3d_r50", help="network to compare the loader's throughput with")
    parser.add_argument("--device", default="cpu", help="where that network runs")
    parser.add_argument("--decoders_only", action="store_true", help="compare the decoders only, and print JSON")
    parser.add_argument("--frame_folders", action="store_true", help="compare folders of JPEG only, and print JSON")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = given.videos
        if not videos:
            made = synthesize("figures", str(folder / "figures"), num_train=10, num_val=10, num_test=10)
            videos = sorted((Path(made) / "videos").glob("train_*.mp4"))[:4]
        masters = []
        for number, video in enumerate(tqdm(videos, "masters", unit="video")):
            masters.append(folder / f"master_{number}.mp4")
            make_master(video, masters[-1])
        if given.decoders_only:
            print(json.dumps(decoders_only(masters, folder, given.clips), indent=2))
            return
        if given.frame_folders:
            print(json.dumps(compare_frame_folders(masters, folder, given.clips), indent=2))
            return
        rows, files = compare_encodings(masters, folder, given.clips)
        about = {
            "videos": len(videos),
            "encodings": [asdict(row) for row in rows],
            "clips_per_second_per_core": {
                which: compare_decoders(files[which], given.clips) for which in (BASE, "prepared (default)")
            },
            "views_one_by_one_over_together": {
                which: compare_views(files[which], 3) for which in (BASE, "prepared (default)")
            },
            "loader": {
                which: loader_overhead(files[which], 10, max(given.clips // 2, 2))
                for which in (BASE, "prepared (default)")
            },
            "trainer_clips_per_second": {given.backbone: trainer_speed(given.backbone, given.device)},
        }
    if given.plot:
        plot(rows, given.plot)
    print(json.dumps(about, indent=2) if given.json else as_text(about))


def as_text(about: dict[str, Any]) -> str:
    lines = [f"{about['videos']} videos; against x264's defaults:", ""]
    lines += [
        "| stored as | bytes | clips/s | clips/s over decord | clips/s, both by decord | time over the limit | PSNR |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in about["encodings"]:
        lines.append(
            f"| {row['encoding']} | {row['bytes']:.2f} | {row['speed']:.2f} | {row['over_decord']:.2f} | "
            f"{row['by_decord']:.2f} | "
            f"{row['over_limit']:.2f} | {row['psnr_db']:+.1f} dB |"
        )
    lines.append("")
    for which, speeds in about["clips_per_second_per_core"].items():
        shown = ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items())
        lines.append(f"clips per second and core, {which}: {shown}")
    for which, ratio in about["views_one_by_one_over_together"].items():
        lines.append(f"30 views of a test, {which}: {ratio:.1f} times cheaper in one decoding than one by one")
    for which, loader in about["loader"].items():
        lines.append(
            f"loader, {which}: {100 * loader['overhead']:+.1f}% over decoding and stacking; "
            f"{loader['clips_per_second_per_core']:.1f} training clips per second and core"
        )
    for backbone, speed in about["trainer_clips_per_second"].items():
        lines.append(f"training {backbone} at 8 x 224 x 224 takes {speed:.2f} clips per second")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
