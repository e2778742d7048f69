#!/bin/sh
# Make sure that the programs which some tests use are here: ffmpeg, colmap, chromium, and a Python with PyTorch and safetensors, for
# which the folder that is named gets a virtual environment. Prints that Python. Installs only what is missing.
set -eu

say() { printf 'kiln: %s\n' "$*" >&2; }

SUDO=
[ "$(id -u)" -eq 0 ] || SUDO=sudo

missing=
command -v ffmpeg >/dev/null 2>&1 || missing="$missing ffmpeg"
command -v colmap >/dev/null 2>&1 || missing="$missing colmap"
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && browser=$name
done
[ -n "${browser:-}${KILN_CHROMIUM:-}" ] || missing="$missing chromium"
if [ -n "$missing" ]; then
    say "installing$missing"
    if command -v apt-get >/dev/null 2>&1; then
        $SUDO apt-get update -qq >&2
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y --no-install-recommends $missing >&2
    elif command -v dnf >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        $SUDO dnf install -y $missing >&2
    elif command -v brew >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        brew install $missing >&2
    else
        say "no known package manager: install$missing by hand"
        exit 1
    fi
fi

has_torch() { "$1" -c 'import torch, safetensors.torch' >/dev/null 2>&1; }

python=${KILN_PYTHON:-python3}
if ! has_torch "$python"; then
    python=$1/bin/python
    if ! has_torch "$python"; then
        say "installing PyTorch into $1"
        python3 -m venv "$1"
        # Gigabytes over a line that can break: pip keeps the wheels that it has, so that another try only fetches the rest.
        tries=5
        until "$1/bin/pip" install --quiet --disable-pip-version-check --timeout 60 --retries 10 torch numpy safetensors >&2; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || { say "PyTorch cannot be installed: name a Python that has it in KILN_PYTHON"; exit 1; }
            say "the download broke off; trying again"
            sleep 5
        done
    fi
fi
printf '%s\n' "$python"
