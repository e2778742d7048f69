#!/bin/sh
# Ask whether to install system packages: $1 says which. KILN_INSTALL=1 agrees beforehand; without a terminal to ask on,
# nothing is installed.
set -eu

if [ "${KILN_INSTALL:-}" = 1 ]; then
    printf 'kiln: installing %s\n' "$1" >&2
    exit 0
fi
if [ -t 0 ] && [ -t 2 ]; then
    printf 'kiln: install %s, with this system'"'"'s package manager? [y/N] ' "$1" >&2
    read -r answer
    case "$answer" in [yY]*) exit 0 ;; esac
    printf 'kiln: nothing was installed\n' >&2
else
    printf 'kiln: to install %s, run the command again with KILN_INSTALL=1\n' "$1" >&2
fi
exit 1
