"""Videos for `check_decoding_matrix.py`: containers x codecs x structures, with a barcode of its number in each frame.

All files are made by the FFmpeg binary of the package `imageio-ffmpeg`, another build than the one inside PyAV. This
binary also decodes them from the first frame to the last; the readers must return the same frames.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, product
from pathlib import Path

import imageio_ffmpeg
import numpy as np

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FPS, NUM_FRAMES, KEYFRAME_INTERVAL = 25, 40, 12
ROWS, COLUMNS, BITS = 3, 4, 6
EVEN = tuple(number / FPS for number in range(NUM_FRAMES))
DARK, LIGHT = (40, 20, 60), (230, 225, 190)


@dataclass(frozen=True)
class Case:
    """File of the matrix.

    Attributes:
        name: the file's name; its suffix chooses the container.
        encode: FFmpeg's options for the output.
        size: width and height of the frames that are encoded, in pixels.
        rewrite: options before and after the input of a second run, which copies the stream; None for no second run.
            The first run's file then has the suffix `first_suffix`.
        first_suffix: see `rewrite`; None for the suffix of `name`.
        seconds: when each frame is shown.
        tolerance_seconds: how far the container rounds times.
        two_passes: whether the encoder sees the frames twice.
        pixel_aspect: width of a pixel over its height.
        shown_as: how a player turns (quarter turns counter-clockwise) and then mirrors the stored picture.
        join: files of these sizes, one after the other, in place of one of `size`.
        encode_next: further options for the second of them.
    """

    name: str
    encode: tuple[str, ...]
    size: tuple[int, int] = (160, 96)
    rewrite: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    first_suffix: str | None = None
    seconds: tuple[float, ...] = EVEN
    tolerance_seconds: float = 0.0021
    two_passes: bool = False
    pixel_aspect: float = 1.0
    shown_as: tuple[int, bool] = (0, False)
    join: tuple[tuple[int, int], ...] = ()
    encode_next: tuple[str, ...] = ()


@cache
def barcode(number: int, width: int, height: int) -> np.ndarray:
    """Draw a frame whose cells are the bits of `number` and their complements. Returns uint8 (h w 3)."""
    bits = [number >> place & 1 for place in range(BITS - 1, -1, -1)]
    cells = np.array(bits + [1 - bit for bit in bits]).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    frame = np.array([DARK, LIGHT], np.uint8)[cells][rows[:, None], columns[None]]
    frame.flags.writeable = False  # whoever asks again is given the same
    return frame


def read_barcode(frame: np.ndarray) -> int | None:
    """Return the number in a frame (h w 3) of any size; None for a frame that shows none."""
    height, width = frame.shape[:2]
    cells = np.empty((ROWS, COLUMNS))
    for row, column in product(range(ROWS), range(COLUMNS)):
        top, left = (row + 0.3) * height / ROWS, (column + 0.3) * width / COLUMNS
        bottom, right = (row + 0.7) * height / ROWS, (column + 0.7) * width / COLUMNS
        cells[row, column] = frame[round(top) : round(bottom), round(left) : round(right)].mean()
    bits = (cells.ravel() > 125).astype(int)
    if not np.array_equal(bits[:BITS], 1 - bits[BITS:]):
        return None
    number = int("".join(map(str, bits[:BITS])), 2)
    return number if number < NUM_FRAMES else None


def run_ffmpeg(*arguments: str, content: bytes | None = None) -> bytes:
    """Run FFmpeg and return its standard output.

    Raises:
        RuntimeError: with what FFmpeg said, where it failed.
    """
    done = subprocess.run([FFMPEG, "-v", "error", "-nostdin", "-y", *arguments], input=content, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip() or f"ffmpeg exited with {done.returncode}")
    return done.stdout


def make(case: Case, folder: Path) -> Path:
    """Write the file of a case into `folder` and return its path."""
    target = folder / case.name
    suffix = case.first_suffix or target.suffix
    sizes = case.join or (case.size,)
    parts = []
    for place, (width, height) in enumerate(sizes):
        numbers = range(place * NUM_FRAMES // len(sizes), (place + 1) * NUM_FRAMES // len(sizes))
        frames = b"".join(_stored(number, width, height, case).tobytes() for number in numbers)
        part = folder / f"{case.name}.{place}{suffix}"
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "-")
        encode = (*source, "-fps_mode", "passthrough", *case.encode, *(case.encode_next if place else ()))
        if case.two_passes:
            log = ("-passlogfile", str(part))
            run_ffmpeg(*encode, "-pass", "1", *log, "-f", "null", "-", content=frames)
            encode = (*encode, "-pass", "2", *log)
        run_ffmpeg(*encode, str(part), content=frames)
        parts.append(part)
    if case.rewrite is not None:
        before, after = case.rewrite
        run_ffmpeg(*before, *_joined(parts), "-c", "copy", *after, str(target))
    else:
        target.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in folder.glob(f"{case.name}.*"):
        part.unlink()
    return target


def _joined(parts: list[Path]) -> tuple[str, ...]:
    """Return FFmpeg's options to concatenate files: by bytes, or by packets if the container has an index."""
    if len(parts) == 1:
        return ("-i", str(parts[0]))
    if parts[0].suffix == ".ts":
        return ("-i", "concat:" + "|".join(map(str, parts)))
    names = parts[0].with_suffix(".txt")
    names.write_text("".join(f"file '{part.name}'\n" for part in parts))
    return ("-f", "concat", "-safe", "0", "-i", str(names))


def _stored(number: int, width: int, height: int, case: Case) -> np.ndarray:
    """Draw a frame that shows its number once a player has turned and mirrored it."""
    quarter_turns, mirrored = case.shown_as
    shown = barcode(number, *((height, width) if quarter_turns % 2 else (width, height)))
    return np.ascontiguousarray(np.rot90(shown[:, ::-1] if mirrored else shown, -quarter_turns))


def truth(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Decode a whole file with FFmpeg's command line, upright but otherwise as stored. Returns uint8 (frames h w 3)."""
    width, height = size
    raw = run_ffmpeg(
        "-i", str(path), "-fps_mode", "passthrough", "-vf", f"scale={width}:{height}", "-f", "rawvideo",
        "-pix_fmt", "rgb24", "-"
    )  # fmt: skip
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


# --- what there is -------------------------------------------------------------------------------------------------

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-sc_threshold", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "18", "-tag:v", "hvc1")
GOP = ("-g", str(KEYFRAME_INTERVAL))
NATIVE_GOP = (*GOP, "-sc_threshold", "1000000000")
H264_STRUCTURES = {
    "no_b": ("-bf", "0"),
    "b2": ("-bf", "2", "-b_strategy", "0"),
    "pyramid": ("-bf", "7", "-b_strategy", "0", "-x264-params", "b-pyramid=normal"),
    "open": ("-bf", "3", "-b_strategy", "0", "-x264-params", "open-gop=1"),
}
HEVC_STRUCTURES = {
    "no_b": ("-x265-params", "log-level=none:scenecut=0:bframes=0:open-gop=0"),
    "b4": ("-x265-params", "log-level=none:scenecut=0:bframes=4:b-adapt=0:open-gop=0"),
    "open": ("-x265-params", "log-level=none:scenecut=0:bframes=4:b-adapt=0:open-gop=1"),
}
NATIVE_STRUCTURES = {"no_b": ("-bf", "0"), "b2": ("-bf", "2")}  # of FFmpeg's own MPEG encoders
FORMATS = {".m2ts": ("-f", "mpegts", "-mpegts_m2ts_mode", "1"), ".vob": ("-f", "vob"), ".m2v": ("-f", "mpeg2video")}
COARSE = {".flv": 0.0021, ".asf": 0.0021, ".wmv": 0.0021, ".gif": 0.0051}


def _case(label: str, suffix: str, *encode: str, **more: object) -> Case:
    return Case(f"{label}{suffix}", (*encode, *FORMATS.get(suffix, ())), **more)  # type: ignore[arg-type]


def _structures() -> Iterator[Case]:
    for (name, options), suffix in product(
        H264_STRUCTURES.items(),
        (".mp4", ".mov", ".mkv", ".avi", ".asf", ".flv", ".ts", ".m2ts", ".mpg", ".mxf", ".h264", ".nut", ".3gp"),
    ):
        yield _case(f"h264_{name}", suffix, *X264, *GOP, "-pix_fmt", "yuv420p", *options)
    for (name, options), suffix in product(HEVC_STRUCTURES.items(), (".mp4", ".mkv", ".ts", ".hevc")):
        tag = X265 if suffix in (".mp4", ".mkv") else X265[:-2]
        yield _case(f"hevc_{name}", suffix, *tag, *GOP, "-pix_fmt", "yuv420p", *options)
    yield _case("mpeg1video_b2", ".m1v", "-c:v", "mpeg1video", "-q:v", "2", *NATIVE_GOP, "-bf", "2", "-f", "mpeg1video")
    for codec, suffixes in {
        "mpeg2video": (".mpg", ".vob", ".ts", ".m2ts", ".mkv", ".mp4", ".avi", ".mxf", ".m2v"),
        "mpeg4": (".avi", ".mp4", ".mkv", ".mov", ".3gp", ".ts", ".m4v"),
        "mpeg1video": (".mpg", ".mkv", ".avi"),
    }.items():
        for (name, options), suffix in product(NATIVE_STRUCTURES.items(), suffixes):
            more = (
                {"tolerance_seconds": 0.041} if codec == "mpeg1video" and suffix == ".avi" else {}
            )  # it leaves one out
            yield _case(f"{codec}_{name}", suffix, "-c:v", codec, "-q:v", "2", *NATIVE_GOP, *options, **more)


VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse"
HIDDEN = ("-auto-alt-ref", "1", "-lag-in-frames", "25", "-deadline", "good", "-cpu-used", "1")


def _recovery_points() -> Iterator[Case]:
    """Return cases of H.264 with intra refresh: a moving column of intra blocks, and no keyframe but the first."""
    for suffix in (".mp4", ".mkv", ".ts", ".flv", ".h264"):
        yield _case("intra_refresh", suffix, *X264, *GOP, "-pix_fmt", "yuv420p", "-x264-params", "intra-refresh=1")


def _other_codecs() -> Iterator[Case]:
    for suffix in (".webm", ".mkv", ".avi", ".ivf"):
        yield _case("vp8", suffix, *VP8, *GOP)
        # AVI and IVF count frames, and hidden ones take a moment of their own.
        tolerance = 0.13 if suffix in (".avi", ".ivf") else 0.0021
        yield _case("vp8_hidden", suffix, *VP8, *HIDDEN, two_passes=True, tolerance_seconds=tolerance)
    for suffix in (".webm", ".mkv", ".mp4", ".ivf"):
        yield _case("vp9", suffix, *VP9, *GOP)
        yield _case("vp9_hidden", suffix, *VP9, *HIDDEN, two_passes=True)
    split = ((), ("-bsf:v", "vp9_superframe_split"))  # most of FFmpeg's muxers would join them again
    yield _case("vp9_split", ".nut", *VP9, *HIDDEN, rewrite=split, first_suffix=".webm", two_passes=True)
    for suffix in (".mp4", ".mkv", ".webm", ".ivf", ".obu"):
        yield _case("av1", suffix, "-c:v", "libsvtav1", "-preset", "8", "-crf", "10", *GOP, "-svtav1-params", "lp=1")
    for suffix in (".asf", ".wmv", ".avi", ".mkv"):
        for codec in ("wmv1", "wmv2", "msmpeg4"):
            yield _case(codec, suffix, "-c:v", codec, "-q:v", "2", *GOP)
    simple: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        ("flv1", ("-c:v", "flv", "-q:v", "2", *GOP), (".flv", ".avi", ".mkv")),
        ("theora", ("-c:v", "libtheora", "-q:v", "8", *GOP), (".ogv", ".ogg", ".mkv")),
        ("mjpeg", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"), (".avi", ".mov", ".mkv", ".mp4", ".mjpeg")),
        ("prores", ("-c:v", "prores_ks"), (".mov", ".mkv", ".mxf")),
        ("ffv1", ("-c:v", "ffv1", "-pix_fmt", "yuv444p"), (".mkv", ".avi", ".nut", ".mov")),
        ("huffyuv", ("-c:v", "huffyuv"), (".avi", ".mkv")),
        ("utvideo", ("-c:v", "utvideo"), (".avi", ".mov")),
        ("raw", ("-c:v", "rawvideo", "-pix_fmt", "bgr24"), (".avi", ".nut")),
        ("raw_yuv", ("-c:v", "rawvideo", "-pix_fmt", "yuv420p"), (".avi", ".nut", ".y4m")),
        ("raw_palette", ("-vf", PALETTE, "-c:v", "rawvideo", "-pix_fmt", "pal8"), (".avi", ".mov", ".nut")),
        ("qtrle", ("-c:v", "qtrle", *GOP), (".mov",)),
        ("qtrle_grey", ("-c:v", "qtrle", "-pix_fmt", "gray"), (".mov",)),
        ("png_palette", ("-vf", PALETTE, "-c:v", "png", "-pix_fmt", "pal8"), (".mov", ".avi")),
        ("msrle", ("-c:v", "msrle", "-pix_fmt", "pal8", *GOP), (".avi",)),
        ("cinepak", ("-c:v", "cinepak", *GOP), (".avi", ".mov")),
        ("svq1", ("-c:v", "svq1", *GOP), (".mov",)),
        ("png", ("-c:v", "png", "-pix_fmt", "rgb24"), (".mov", ".avi", ".mkv")),
        ("jpeg2000", ("-c:v", "jpeg2000", "-pix_fmt", "yuv420p"), (".mxf", ".mov")),
        ("gif", ("-c:v", "gif",), (".gif",)),
        ("apng", ("-c:v", "apng", "-plays", "0", "-pix_fmt", "rgb24"), (".apng",)),
        ("rv20", ("-c:v", "rv20", "-q:v", "2", *GOP), (".rm",)),
    ]  # fmt: skip
    for name, options, suffixes in simple:
        for suffix in suffixes:
            yield _case(name, suffix, *options)
    yield _case("h263", ".3gp", "-c:v", "h263", "-q:v", "2", *GOP, size=(176, 144))
    yield _case("h263", ".avi", "-c:v", "h263", "-q:v", "2", *GOP, size=(176, 144))
    for suffix in (".dv", ".avi", ".mov"):
        yield _case("dv", suffix, "-c:v", "dvvideo", "-pix_fmt", "yuv420p", size=(720, 576))


H264 = (*X264, *GOP, "-pix_fmt", "yuv420p", *H264_STRUCTURES["b2"])


def _times() -> Iterator[Case]:
    """Return cases of variable rates, repeated times, starts other than 0, and cuts."""

    variable = tuple((n + n // 3) / FPS for n in range(NUM_FRAMES))
    stretched = ("-vf", f"setpts=(N+floor(N/3)+0.1)/{FPS}/TB")
    for suffix in (".mp4", ".mov", ".mkv", ".ts", ".flv", ".asf", ".nut"):
        # ASF holds the times at which frames are decoded, and they are shown in that order.
        tolerance = 0.041 if suffix == ".asf" else 0.0021
        yield _case("variable", suffix, *stretched, *H264, seconds=variable, tolerance_seconds=tolerance)
    yield _case("variable", ".webm", *stretched, *VP8, *GOP, seconds=variable)
    yield _case(
        "variable",
        ".avi",
        *stretched,
        "-enc_time_base",
        f"1/{FPS}",
        "-c:v",
        "mpeg4",
        "-q:v",
        "2",
        *GOP,
        seconds=variable,
    )
    repeated = tuple((n if n < 20 else n - 1) / FPS for n in range(NUM_FRAMES))
    once_again = ((), ("-bsf:v", f"setts=ts=if(gte(N\\,20)\\,TS-1/({FPS}*TB)\\,TS)"))
    for suffix, structure in product((".mp4", ".mkv", ".mov"), ("no_b", "b2")):
        options = (*X264, *GOP, "-pix_fmt", "yuv420p", *H264_STRUCTURES[structure])
        if structure == "no_b":
            yield _case("repeated", suffix, *options, rewrite=once_again, seconds=repeated)
        yield _case(f"offset_{structure}", suffix, *options, rewrite=((), ("-output_ts_offset", "10")))
        early = ("-output_ts_offset", "-0.5", "-avoid_negative_ts", "disabled")
        yield _case(f"negative_{structure}", suffix, *options, rewrite=((), early))
        for label, cut in (("cut", "0.9"), ("cut_at_key", "0.48")):
            yield _case(f"{label}_{structure}", suffix, *options, rewrite=(("-ss", cut), ()))
    for suffix in (".ts", ".mpg"):
        yield _case("offset", suffix, *H264, rewrite=((), ("-output_ts_offset", "10")))
        yield _case("cut", suffix, *H264, rewrite=(("-ss", "0.9"), ()))
    open_groups = (*X264, *GOP, "-pix_fmt", "yuv420p", *H264_STRUCTURES["open"])
    for suffix in (".mp4", ".mkv", ".ts"):
        yield _case("cut_open", suffix, *open_groups, rewrite=(("-ss", "0.9"), ()))
        yield _case("cut_hevc_open", suffix, *X265, *GOP, *HEVC_STRUCTURES["open"], rewrite=(("-ss", "0.9"), ()),
                    first_suffix=".mp4")  # fmt: skip
    # Copies of files whose container holds no display times.
    invented = ((), ("-bsf:v", f"setts=ts=N/({FPS}*TB)"))  # as FFmpeg 5 does by itself
    for suffix, structure in product((".mp4", ".mkv", ".mov", ".mxf", ".ts", ".flv"), ("b2", "pyramid", "open")):
        options = (*X264, *GOP, "-pix_fmt", "yuv420p", *H264_STRUCTURES[structure])
        yield _case(f"copy_of_avi_{structure}", suffix, *options, rewrite=invented, first_suffix=".avi")
    copies = [*product((".ts", ".flv"), (".mp4", ".mkv")), (".asf", ".mp4"), (".mpg", ".mp4")]
    for source, suffix in copies:
        # Program streams have times for some frames only; the others' are FFmpeg's guesses.
        tolerance = 0.081 if source == ".mpg" else 0.0021
        yield _case(f"copy_of_{source[1:]}", suffix, *H264, rewrite=((), ()), first_suffix=source,
                    tolerance_seconds=tolerance)  # fmt: skip
    for suffix in (".mp4", ".mkv"):
        yield _case("copy_of_h264", suffix, *H264, rewrite=invented, first_suffix=".h264")
    yield _case("copy_of_avi_mpeg4", ".mp4", "-c:v", "mpeg4", "-q:v", "2", *GOP, "-bf", "2", rewrite=((), ()),
                first_suffix=".avi")  # fmt: skip
    late = tuple(n / FPS + (0.12 if n == NUM_FRAMES - 1 else 0) for n in range(NUM_FRAMES))
    for suffix in (".mp4", ".mov", ".mkv"):
        yield _case(
            "late_end", suffix, "-vf", f"setpts=(N+0.1+3*eq(N\\,{NUM_FRAMES - 1}))/{FPS}/TB", *H264, seconds=late
        )
        yield _case("cut_both_ends", suffix, *H264, rewrite=(("-ss", "0.3"), ("-t", "0.6")))
    radl = (*X265[:-2], "-g", "16", "-x265-params", "log-level=none:scenecut=0:open-gop=0:radl=2:bframes=4:b-adapt=0")
    for suffix in (".ts", ".mkv"):
        yield _case("cut_hevc_radl", suffix, *radl, rewrite=(("-ss", "0.7"), ()), first_suffix=".mp4")
    yield _case("fragmented", ".mp4", *H264, "-movflags", "frag_keyframe+empty_moov")


def _pictures() -> Iterator[Case]:
    """Return cases of sizes, pixel formats, ranges, orientations, pixel aspect ratios and interlacing."""
    for suffix, size in product((".mp4", ".mkv", ".avi"), ((161, 97), (150, 90), (98, 162))):
        odd = ("-pix_fmt", "yuv444p") if size[0] % 2 else ("-pix_fmt", "yuv420p")
        yield _case(f"size_{size[0]}x{size[1]}", suffix, *X264, *GOP, "-bf", "2", *odd, size=size)
    for pix_fmt, suffix in product(
        ("yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuvj420p", "gray"), (".mp4", ".mkv")
    ):
        yield _case(f"h264_{pix_fmt}", suffix, *X264, *GOP, "-bf", "2", "-pix_fmt", pix_fmt)
    for pix_fmt in ("yuv420p10le", "yuv420p12le", "yuv444p"):
        yield _case(
            f"hevc_{pix_fmt}", ".mp4", *X265, *GOP, "-x265-params", "log-level=none:scenecut=0", "-pix_fmt", pix_fmt
        )
    for pix_fmt in ("yuv420p10le", "yuv444p"):
        yield _case(f"vp9_{pix_fmt}", ".webm", *VP9, *GOP, "-pix_fmt", pix_fmt)
    full = ("-vf", "scale=out_range=pc", "-color_range", "pc")
    yield _case("full_range", ".mp4", *full, *H264)
    yield _case("full_range", ".mkv", *full, *H264)
    for (turns, mirrored), suffix in product(product(range(4), (False, True)), (".mp4", ".mov")):
        options = ("-display_rotation", str(90 * turns), *(("-display_hflip",) if mirrored else ()))
        name = f"turned_{90 * turns}{'_mirrored' if mirrored else ''}"
        yield _case(name, suffix, *H264, rewrite=(options, ()), shown_as=(turns, mirrored))
    for suffix in (".mp4", ".mkv", ".avi", ".ts", ".mpg"):
        codec = ("-c:v", "mpeg2video", "-q:v", "2", *GOP) if suffix == ".mpg" else H264
        wide, tall = ("-vf", "setsar=16/11"), ("-vf", "setsar=8/9")
        if suffix != ".mpg":  # MPEG-2 knows the shapes of pictures, not of pixels
            yield _case("wide_pixels", suffix, *wide, *codec, pixel_aspect=16 / 11)
            yield _case("tall_pixels", suffix, *tall, *codec, pixel_aspect=8 / 9)
        else:
            yield _case("wide_picture", suffix, "-aspect", "16:9", *codec, pixel_aspect=16 / 9 * 96 / 160)
    fields = ("-flags", "+ilme+ildct")
    for suffix in (".mp4", ".mkv", ".ts"):
        yield _case("fields_mbaff", suffix, "-vf", "setfield=tff", *H264, *fields)
    for suffix in (".mpg", ".ts", ".mxf", ".mkv"):
        codec = ("-c:v", "mpeg2video", "-q:v", "2", *GOP, "-bf", "2")
        yield _case("fields_mpeg2", suffix, "-vf", "setfield=tff", *codec, *fields)


def _size_changes() -> Iterator[Case]:
    sizes = ((160, 96), (96, 160))
    for suffix in (".ts", ".mkv", ".mp4", ".h264"):
        first = ".ts" if suffix != ".h264" else ".h264"
        rewrite = None if suffix in (".ts", ".h264") else ((), ())
        yield _case("resized_h264", suffix, *H264, join=sizes, first_suffix=first, rewrite=rewrite)
    for suffix in (".webm", ".mkv"):
        yield _case("resized_vp8", suffix, *VP8, *GOP, join=sizes, rewrite=((), ()))
        yield _case("resized_vp9", suffix, *VP9, *GOP, join=sizes, rewrite=((), ()))
    for suffix in (".ts", ".mkv"):
        hevc = (*X265[:-2], *GOP, *HEVC_STRUCTURES["b4"])
        yield _case("resized_hevc", suffix, *hevc, join=sizes, first_suffix=".ts", rewrite=((), ()))
    # Parameter sets that change: in-band in one part only, and differing between two parts.
    same = ((160, 96), (160, 96))
    for suffix in (".mkv", ".flv", ".mp4"):
        yield _case("sets_begin", suffix, *H264, "-flags", "+global_header", join=same, rewrite=((), ()),
                    first_suffix=".mkv", encode_next=("-x264-params", "repeat-headers=1"))  # fmt: skip
    open_groups = (*X264, *GOP, "-pix_fmt", "yuv420p", "-bf", "3", "-b_strategy", "0")
    for suffix in (".mp4", ".mov", ".mkv", ".ts"):
        yield _case("sets_change", suffix, *open_groups, "-x264-params", "open-gop=1:cabac=1", join=same,
                    rewrite=((), ()), first_suffix=".mp4",
                    encode_next=("-x264-params", "open-gop=1:cabac=0"))  # fmt: skip
    # The decoder loses the last frame before the change, FFmpeg's own, too.
    yield _case("resized_mpeg2", ".mpg", "-c:v", "mpeg2video", "-q:v", "2", *GOP, join=sizes, tolerance_seconds=0.041)


def cases() -> list[Case]:
    """Return every case of the matrix, in a fixed order."""
    return list(chain(_structures(), _recovery_points(), _other_codecs(), _times(), _pictures(), _size_changes()))
