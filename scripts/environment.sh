# Create or reuse .venv, and install farfield into it with the extras in $1 ("[dev]"). Sourced by the other scripts.
# Installs again only if pyproject.toml or the extras have changed.
if [ -z "${PYTHON:-}" ]; then
    for candidate in python3 python3.11 python3.12 python3.13; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            PYTHON=$candidate
            break
        fi
    done
fi
if [ -z "${PYTHON:-}" ]; then
    echo "farfield needs Python 3.11 or newer; set PYTHON to one." >&2
    exit 1
fi
[ -x .venv/bin/pip ] || "$PYTHON" -m venv .venv
stamp=.venv/farfield-installed
wanted="$(cksum <pyproject.toml) $1"
if ! grep -qxF "$wanted" "$stamp" 2>/dev/null; then
    # The pip that Python brings may be old: 23.2 takes half as long again to install as 26.3.
    .venv/bin/pip install --quiet --disable-pip-version-check --upgrade pip
    # Python compiles a module when it is first imported. To compile all 26,000 first took as long as the rest.
    .venv/bin/pip install --quiet --disable-pip-version-check --no-compile --editable ".$1"
    echo "$wanted" >>"$stamp"
fi
# Otherwise, every process would compile what it imports again, where the environment forbids to keep it.
unset PYTHONDONTWRITEBYTECODE
export PATH="$PWD/.venv/bin:$PATH"
