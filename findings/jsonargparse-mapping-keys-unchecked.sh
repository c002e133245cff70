#!/usr/bin/env bash
# jsonargparse 4.51.0: an option of type dict[str, float] checks its values, but not its keys, which keep YAML's type.
#
# Expected: for --weights '{0: 6, a: 2}', an error, or {"0": 6.0, "a": 2.0}. Values are checked ({a: 6} is refused for a
#   dict[str, str]), and the keys of a dict[int, float] are converted ('{"3": 6}' gives {3: 6.0}).
# Seen: {0: 6.0, "a": 2.0}; {true: 6, 1.5: 2} gives {True: 6.0, 1.5: 2.0}. No error.
# Why it matters: classes are often named 0, 1, 2, or yes and no. A weight that is looked up by the
#   class's name, weights.get("0"), is not found, and the option has no effect.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "jsonargparse[signatures]==4.51.0" "PyYAML==6.0.2"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib
import io

import jsonargparse

parser = jsonargparse.ArgumentParser()
parser.add_argument("--weights", type=dict[str, float])
parser.add_argument("--names", type=dict[str, str])
parser.add_argument("--by_number", type=dict[int, float])
weights = parser.parse_args(["--weights={0: 6, a: 2}"]).weights
print("dict[str, float] from {0: 6, a: 2}:", weights)
assert weights == {0: 6.0, "a": 2.0}, weights
assert parser.parse_args(["--weights={true: 6, 1.5: 2}"]).weights == {True: 6.0, 1.5: 2.0}
assert weights.get("0") is None
errors = io.StringIO()
with contextlib.redirect_stderr(errors), contextlib.suppress(SystemExit):
    parser.parse_args(["--names={a: 6}"])
    raise AssertionError("the value 6 of a dict[str, str] is no longer refused")
assert "Expected a <class 'str'>. Got value: 6" in errors.getvalue(), errors.getvalue()
by_number = parser.parse_args(['--by_number={"3": 6}']).by_number
print("dict[int, float] from {\"3\": 6}:", by_number)
assert by_number == {3: 6.0}, by_number
PYTHON
echo "as described"
