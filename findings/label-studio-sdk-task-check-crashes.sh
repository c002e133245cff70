#!/usr/bin/env bash
# label-studio-sdk 2.1.2: LabelInterface.validate_task cannot check a task that has annotations or predictions, even none.
#
# Expected: the check of a task before its import says True or False, as it does of a task that has data alone, and as
#   validate_prediction does of the same prediction.
# Seen: TypeError, "missing 1 required positional argument". It calls validate_annotation() and validate_prediction() without
#   the annotation or prediction (interface.py), so that the keys alone decide, whatever they hold.
# Why it matters: pre-annotated tasks, which have predictions by definition, are those that most need the check.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check label-studio-sdk==2.1.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(
    '<View><Video name="video" value="$video"/>'
    '<TimelineLabels name="actions" toName="video"><Label value="jump"/></TimelineLabels></View>'
)
region = {"id": "a", "from_name": "actions", "to_name": "video", "type": "timelinelabels"}
region["value"] = {"ranges": [{"start": 1, "end": 5}], "timelinelabels": ["jump"]}
prediction = {"model_version": "m", "score": 0.5, "result": [region]}
tasks = {
    "data alone": {},
    "no predictions": {"predictions": []},
    "a prediction": {"predictions": [prediction]},
    "an annotation": {"annotations": [{"result": [region]}]},
}
seen = {"the prediction itself": interface.validate_prediction(prediction)}
for name, more in tasks.items():
    try:
        seen[name] = interface.validate_task({"data": {"video": "a.mp4"}, **more})
    except TypeError as error:
        seen[name] = str(error).partition(" ")[2]
for name, answer in seen.items():
    print(f"{name}: {answer}")
missing = "missing 1 required positional argument: "
expected = {"the prediction itself": True, "data alone": True}
expected |= {name: f"{missing}'prediction'" for name in ("no predictions", "a prediction")}
expected |= {"an annotation": f"{missing}'annotation'"}
if seen != expected:
    sys.exit(f"changed: {seen}")
PY
