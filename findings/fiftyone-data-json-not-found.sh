#!/usr/bin/env bash
# fiftyone 1.22.1: importers do not find data.json, which their documentation says they look for, unless it is named.
#
# Expected: as the docstring of each importer with `data_path` says, "if None, this parameter will default to whichever of
#   data/ or data.json exists in the dataset directory".
# Seen: "Data directory '.../data/' does not exist", with data.json beside labels.json. The default "data/" ends in a slash, to
#   which ".json" is appended, so that the file looked for is data/.json. With data_path="data.json", or "data" without the slash,
#   it is found.
# Why it matters: labels of videos that stay where they are, as a program writes them, need data.json. The way that is
#   documented to import them fails, and its message asks for a folder of copies.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check fiftyone==1.22.1
cd "$work"
export HOME="$work" FIFTYONE_DO_NOT_TRACK=1
"$work/venv/bin/python" - <<'PY'
import json
import sys
from pathlib import Path

from fiftyone.utils.data.importers import FiftyOneTemporalDetectionDatasetImporter as Importer

Path("videos").mkdir()
Path("videos/a.mp4").touch()
Path("dataset").mkdir()
Path("dataset/labels.json").write_text(json.dumps({"labels": {"a": [{"label": "jump", "support": [1, 50]}]}}))
Path("dataset/data.json").write_text(json.dumps({"a.mp4": str(Path("videos/a.mp4").absolute())}))
seen = {}
for data_path in (None, "data.json", "data"):
    importer = Importer(dataset_dir="dataset", data_path=data_path)
    try:
        importer.setup()
        seen[data_path] = [(Path(path).name, label.detections[0].support) for path, _, label, _ in importer]
    except ValueError as error:
        seen[data_path] = str(error).replace(str(Path.cwd()), "...")
    print(f"data_path={data_path!r}: {seen[data_path]}")
documented = "whichever of ``data/`` or" in " ".join(Importer.__doc__.split())
print("the docstring promises it:", documented)
found = [("a.mp4", [1, 50])]
if seen != {None: "Data directory '.../dataset/data/' does not exist", "data.json": found, "data": found} or not documented:
    sys.exit(f"changed: {seen}")
PY
