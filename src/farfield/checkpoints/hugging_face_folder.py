"""Recognise, download and read folders that Hugging Face's `transformers` wrote, without running code from them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from torch import Tensor

from farfield.checkpoints.converters.restricted_unpickler import as_tensors, read_file
from farfield.checkpoints.folder_files import read_json_object, read_safetensors
from farfield.errors import FarfieldError
from farfield.optional_dependencies import require_packages
from farfield.untrusted_json import JsonError, parse_json

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Weight files in order of preference. An index lists the parts if the weights are split into several files."""
PROCESSORS = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
"""Files with preprocessing settings, in the order of preference of `transformers`."""
REMEDY = "Copy or download the folder again."

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_CHECKPOINT_SUFFIXES = {".ckpt", ".pt", ".pth", ".pyth", ".pkl", ".bin", ".onnx", ".xml", ".pt2", ".safetensors"}


def is_hugging_face(path: str | Path) -> bool:
    """Return whether a path is a folder that `transformers` wrote, or may be the name of a model on huggingface.co.

    A name has the form owner/model. If the folder `owner` exists locally, the result is False: `path` is then a
    mistyped local path.
    """
    place = Path(path)
    if place.is_dir():
        try:
            content = parse_json((place / CONFIG).read_bytes())
        except (JsonError, OSError):
            return False
        return isinstance(content, dict) and isinstance(content.get("model_type"), str) and "model" not in content
    is_name = _NAME.fullmatch(str(path)) is not None and place.suffix.lower() not in _CHECKPOINT_SUFFIXES
    return is_name and not place.exists() and not place.parent.exists()


def find_folder(path: str | Path) -> Path:
    """Return the local folder `path`, or download the model of this name from huggingface.co.

    Downloads go to the cache of `huggingface_hub`.

    If the environment variable HF_HUB_OFFLINE is set (`--offline` on the command line), only the cache is used.

    Raises:
        FarfieldError: if the model cannot be downloaded, or `huggingface_hub` is not installed.
    """
    if Path(path).is_dir():
        return Path(path)
    with require_packages("huggingface_hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")

    def fetch(*patterns: str) -> Path:
        return Path(snapshot_download(str(path), allow_patterns=list(patterns), local_files_only=offline))

    try:
        folder = fetch(CONFIG, *PROCESSORS, "model*.safetensors", WEIGHTS[1])
        if not any((folder / name).is_file() for name in WEIGHTS[:2]):
            folder = fetch(CONFIG, *PROCESSORS, "pytorch_model*.bin", WEIGHTS[3])
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        reason = "it is not in the local cache, and --offline (HF_HUB_OFFLINE) forbids a download" if offline else error
        raise FarfieldError(
            f"there is no folder {path}, and the model of that name on huggingface.co cannot be loaded: "
            f"{' '.join(str(reason).split()).removesuffix('.')}. Give an existing folder, or check the name and the "
            "internet connection."
        ) from error
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Return the paths of the weight files in a folder.

    Raises:
        FarfieldError: if there are no weights, or an index of weight files is damaged or names a file outside the
            folder.
    """
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise FarfieldError(f"{folder} has a {CONFIG} but no weights ({WEIGHTS[0]} or {WEIGHTS[2]}). {REMEDY}")
    if found.suffix != ".json":
        return [found]
    index = read_json_object(found, remedy=REMEDY)
    names = index.get("weight_map")
    shards = sorted(set(names.values())) if isinstance(names, dict) and names else []
    suffix = ".safetensors" if "safetensors" in found.name else ".bin"
    for name in shards or [None]:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(suffix):
            raise FarfieldError(f"{found} is damaged: its weight_map must name weight files in this folder. {REMEDY}")
        if not (folder / name).is_file():
            raise FarfieldError(f"{folder} is incomplete: it has no {name}. {REMEDY}")
    return [folder / name for name in shards]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all weights of a folder; return them by the names that they have in the files.

    Raises:
        FarfieldError: if files are missing, damaged or unsafe to read.
    """
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":
            state |= as_tensors(read_file(path), path)
            continue
        state |= read_safetensors(path, remedy=REMEDY)
    return state
