"""Save and load a network as a hub folder, a folder for model hubs. A hub folder holds these files:

model.safetensors   weights, read without unpickling
config.json         {"format": 1, "model": {...fields of NetworkOptions...}}
labels.txt          labels, one per line
README.md           model card

If the network has thresholds, config.json also has "operating_point", "timeline_operating_point" or both, see
checkpoint.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from farfield.checkpoints.folder_files import read_json, read_safetensors
from farfield.checkpoints.rebuild import rebuild
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.models.operating_point import operating_points_to_dict, set_operating_points

FORMAT = 1
WEIGHTS, CONFIG, LABELS, CARD = "model.safetensors", "config.json", "labels.txt", "README.md"
REMEDY = "Copy or export the folder again."


def write_folder(network: ActionNet, folder: Path, card: str) -> None:
    """Write the four files of a hub folder to a new folder.

    Call this inside `atomic_output`, which cleans up on an error.

    Args:
        network: network as `load_network` returns it: batch norms are neither folded into convolutions nor split by
            `split_batch_norm`.
        folder: path that does not exist yet.
        card: content of README.md.

    Raises:
        FarfieldError: for a label that is empty or contains a line break.
    """
    for label in network.labels:
        if len(label.splitlines()) != 1:
            raise FarfieldError(
                f"the label {label!r} is not a single line, but labels.txt holds one label per line. Rename the label."
            )
    folder.mkdir()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(state, metadata={"format": "pt"}))  # save_file lets only its owner read it
    content = {"format": FORMAT, "model": network.config, **operating_points_to_dict(network)}
    (folder / CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / LABELS).write_text("".join(f"{label}\n" for label in network.labels), encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def load_folder(folder: str | Path) -> ActionNet:
    """Load a network from a hub folder. The network is in evaluation mode, on the CPU.

    Raises:
        FarfieldError: if files are missing or damaged, the network options are invalid, or the weights do not fit them.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if len(missing) == 2:
        raise FarfieldError(
            f"{folder} is a folder without {CONFIG} or {WEIGHTS}. Give the path of a checkpoint, such as "
            "runs/NAME/checkpoints/best.ckpt, or of a folder that farfield export --to_folder wrote."
        )
    if missing:
        raise FarfieldError(f"{folder} is incomplete: it has no {missing[0]}. Copy or export the folder again.")
    config = _read_config(folder / CONFIG)
    state = read_safetensors(folder / WEIGHTS, remedy=REMEDY)
    network = rebuild(config["model"], state, described=folder / CONFIG, weights=folder / WEIGHTS)
    set_operating_points(network, config, folder / CONFIG)
    return network


def _read_config(path: Path) -> dict[str, Any]:
    """Read config.json and check its format version, but not its network options and thresholds."""
    content = read_json(path, remedy=REMEDY)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise FarfieldError(
            f"{path} was not written by farfield export: it has no network options (the key 'model'). Export the "
            "checkpoint with farfield export --to_folder."
        )
    if content.get("format") != FORMAT:
        raise FarfieldError(
            f"{path} has format {content.get('format')}, but this version of farfield reads format {FORMAT}. Use the "
            "version that wrote the folder."
        )
    return content
