"""Embeddings for retrieval: the features before the classifier, one row per video or per window of a timeline.

A .safetensors file holds `features` (float32, rows x c), `seconds` (float64, rows x 2: start and end) and `video`
(int64, rows). `video` is the index of the row's video in the list of paths, which is in the file's metadata under
`paths`, as JSON. A .parquet file has the columns path, start_seconds, end_seconds and features.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError


def check_parquet() -> None:
    """Check that pyarrow is installed.

    Raises:
        FarfieldError: if pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise FarfieldError(
            "writing parquet needs pyarrow, which is not installed. Run pip install 'farfield[parquet]', or write "
            "safetensors."
        )


def write_features(path: Path, features: Float[np.ndarray, "rows c"], seconds: Float[np.ndarray, "rows 2"]) -> None:
    """Write the features of one video or segment to a .safetensors file, atomically.

    Args:
        path: the file to write. Its folder is created if it is missing.
        features: one row for the whole video or segment, or one row for each window of a timeline.
        seconds: start and end, in seconds, of the part of the video that each row is computed from.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, np.ndarray] = {
        "features": np.ascontiguousarray(features, np.float32),
        "seconds": np.ascontiguousarray(seconds, np.float64),
    }
    with atomic_write(path) as partial:
        save_file(content, partial)


def join_features(parts: Sequence[tuple[str, Path]], path: Path) -> None:
    """Join the feature files of all videos into one .safetensors or .parquet file, written atomically.

    Args:
        parts: for each video, or part of a video, the video's path and the file that `write_features` wrote for it.
        path: the file to write; its suffix decides the format. Nothing is written if `parts` is empty.
    """
    if not parts:
        return
    paths = [video for video, _ in parts]
    loaded = [load_file(part) for _, part in parts]
    counts = [len(rows["features"]) for rows in loaded]
    features = np.concatenate([rows["features"] for rows in loaded])
    seconds = np.concatenate([rows["seconds"] for rows in loaded])
    video = np.repeat(np.arange(len(parts)), counts)
    with atomic_write(path) as partial:
        if path.suffix == ".parquet":
            _write_parquet(partial, np.array(paths)[video], features, seconds)
        else:
            content = {"features": features, "seconds": seconds, "video": video.astype(np.int64)}
            save_file(content, partial, metadata={"paths": json.dumps(paths)})


def _write_parquet(path: Path, videos: np.ndarray, features: np.ndarray, seconds: np.ndarray) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    columns = {
        "path": pa.array(
            [os.fsencode(path).decode(errors="replace") for path in videos]
        ),  # file names need not be UTF-8
        "start_seconds": pa.array(seconds[:, 0]),
        "end_seconds": pa.array(seconds[:, 1]),
        "features": rows,
    }
    parquet.write_table(pa.table(columns), path)
