# The other scripts source this file. It makes .venv and installs featcodec into it. It does so again only when
# pyproject.toml or constraints.txt has changed.
#
# PYTHON: the Python for .venv (default: the first of python3, python3.13 ... that is new enough).
# FEATCODEC_NEWEST=1: install the newest version of every package instead of the versions in constraints.txt.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"

say() { printf '== %s\n' "$*"; }

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" && printf '%s\n' "$PYTHON" && return
        echo "PYTHON=$PYTHON is not Python 3.10 or newer with venv; set it to one, or unset it." >&2
        return 1
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        usable "$candidate" && printf '%s\n' "$candidate" && return
    done
    echo "No Python 3.10 or newer with venv found; install one (Debian: apt-get install python3-venv), or set PYTHON." >&2
    return 1
}

# Fails if .venv already exists and PYTHON asks for another version. Otherwise people would think that they test that
# version.
same_python() {
    local version='import sys; print("%d.%d" % sys.version_info[:2])' asked there
    [ -n "${PYTHON:-}" ] || return 0
    find_python >/dev/null || return 1
    asked=$("$PYTHON" -c "$version") there=$("$VENV/bin/python" -c "$version")
    [ "$asked" = "$there" ] && return
    echo "$VENV has Python $there, but PYTHON=$PYTHON is $asked: remove $VENV, or unset PYTHON." >&2
    return 1
}

# install_featcodec EXTRA: EXTRA is '', '[dev]' or other extras like '[serve,edge]'. '[dev]' installs all that any other
# installs, and more.
install_featcodec() {
    local stamp older python which
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        same_python || return 1
    else
        python=$(find_python) || return 1
        say "making $VENV"
        rm -rf "$VENV"
        "$python" -m venv "$VENV" || return 1
    fi
    stamp="$VENV/.installed-$(cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" | cksum | tr ' ' '-')${FEATCODEC_NEWEST:+-newest}"
    if [ ! -e "$stamp$1" ] && [ ! -e "$stamp[dev]" ]; then
        which=(--constraint "$ROOT/constraints.txt")
        [ -z "${FEATCODEC_NEWEST:-}" ] || which=(--upgrade --upgrade-strategy eager)
        say "installing featcodec$1 (PyTorch is large: a few minutes the first time)"
        # Stamps of other versions no longer say what is installed, even if the two files change back.
        for older in "$VENV"/.installed-*; do
            case "$older" in "$stamp" | "$stamp["*) ;; *) rm -f "$older" ;; esac
        done
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "${which[@]}" --editable "$ROOT$1" || return 1
        touch "$stamp" "$stamp$1"
    fi
}

find_browser() {
    local candidate
    for candidate in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$candidate" && return
    done
    return 1
}

# install_browser: a Chromium for the tests of the server's page, if there is none and apt-get can install one. Without
# one, these tests are skipped.
install_browser() {
    local root=()
    find_browser >/dev/null && return
    command -v apt-get >/dev/null || return 0
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 0
        root=(sudo -n)
    fi
    say "installing chromium, for the tests of the page"
    # Some source of packages may be out of reach; another one may have it.
    "${root[@]}" apt-get -qq update >/dev/null 2>&1 || true
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium \
        >/dev/null 2>&1 || echo "note: apt-get cannot install chromium; the tests of the page need one" >&2
}

# fast_precision FOLDER: sets the array `fast`: the options for bfloat16 where the device computes it fast, else nothing.
# CPUs without instructions for it (AVX512-BF16) take many times as long as in float32. FOLDER keeps the choice, so that a
# run that goes on keeps its precision.
fast_precision() {
    [ -e "$1/precision" ] || "$VENV/bin/python" -c '
from featcodec.system.devices import choose_device, has_fast_bfloat16
device = choose_device()
print("--precision bf16-mixed" if device.type == "cuda" or has_fast_bfloat16(device) else "--precision 32-true")
' >"$1/precision"
    read -ra fast <"$1/precision"
}

# half IN OUT: a copy of a checkpoint in float16, for shipping. Train what is bound to the weights on the copy.
half() {
    "$VENV/bin/python" -c '
import sys
from pathlib import Path
from featcodec.networks.checkpoints import store_half
store_half(*map(Path, sys.argv[1:]))' "$@"
}
