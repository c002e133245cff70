#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy.save and save_file write transposed, strided or Fortran-ordered arrays scrambled.
#
# Expected: an array comes back equal to what was saved, or saving it is refused, as safetensors.torch does. Versions 0.4 to
#   0.7 copied such arrays to C order first.
# Seen: the bytes are written in memory order under the logical shape; no error, right shape and dtype, wrong values.
#   (Reported upstream as safetensors/safetensors issue 825.)
# Why it matters: 3-D convolution weights of another framework reach a checkpoint through np.transpose (t, h, w, in, out ->
#   out, in, t, h, w), which is a view: the model loads without a complaint and its accuracy is that of chance.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

weights = np.arange(3 * 3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 3, 2, 4)
arrays = {
    "C order": weights,
    "transposed to (out, in, t, h, w)": weights.transpose(4, 3, 0, 1, 2),
    "Fortran order": np.asfortranarray(weights),
    "every second channel": weights[..., ::2],
}
save_file(arrays, "w.safetensors")
back = load_file("w.safetensors")
# what comes back: (same shape and type, same values, the bytes of the memory read in C order)
expected = {
    "C order": (True, True, True),
    "transposed to (out, in, t, h, w)": (True, False, True),
    "Fortran order": (True, False, True),
    "every second channel": (True, False, True),
}
seen = {}
for name, array in arrays.items():
    kept = back[name].shape == array.shape and back[name].dtype == array.dtype
    memory = np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,)).reshape(array.shape)
    seen[name] = (kept, np.array_equal(back[name], array), np.array_equal(back[name], memory))
    print(f"{name}: shape and type kept {kept}, values kept {seen[name][1]}, memory in C order instead {seen[name][2]}")
if seen != expected:
    sys.exit(f"changed: {seen}")
PY
