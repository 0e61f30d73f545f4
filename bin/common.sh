# Sourced by the scripts beside it: makes .venv and installs featcodec into it, once per change of pyproject.toml.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"

say() { printf '== %s\n' "$*"; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "No Python 3.10 or newer with venv found; install one (Debian: apt-get install python3-venv), or set PYTHON." >&2
    return 1
}

# install_featcodec EXTRA: EXTRA is '' or '[dev]'.
install_featcodec() {
    local stamp python
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || return 1
        say "making $VENV"
        rm -rf "$VENV"
        "$python" -m venv "$VENV" || return 1
    fi
    stamp="$VENV/.installed-$(cksum <"$ROOT/pyproject.toml" | tr ' ' '-')$1"
    if [ ! -e "$stamp" ]; then
        say "installing featcodec$1 (PyTorch is large: a few minutes the first time)"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$ROOT$1" || return 1
        touch "$stamp"
    fi
}
