#!/bin/sh
# Make sure that the window can be tested without a screen: a virtual X server, and the libraries that a window opens at run
# time. Does nothing unless KILN_REQUIRE_WINDOW is 1: elsewhere the test of the window is skipped where they are missing.
set -eu

[ "${KILN_REQUIRE_WINDOW:-}" = 1 ] && [ "$(uname -s)" = Linux ] || exit 0

libraries_present() {
    for library in libX11-xcb.so.1 libxkbcommon-x11.so.0 libXcursor.so.1 libXi.so.6 libXrandr.so.2; do
        { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -qF "$library" || return 1
    done
}

command -v Xvfb >/dev/null 2>&1 && libraries_present && exit 0

"$(dirname "$0")/may-install.sh" "a virtual X server, to test the window" || exit 1
SUDO=
[ "$(id -u)" -eq 0 ] || SUDO=sudo
if command -v apt-get >/dev/null 2>&1; then
    $SUDO apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y --no-install-recommends \
        xvfb libx11-xcb1 libxkbcommon-x11-0 libxcursor1 libxi6 libxrandr2 >&2
elif command -v dnf >/dev/null 2>&1; then
    $SUDO dnf install -y xorg-x11-server-Xvfb libX11-xcb libxkbcommon-x11 libXcursor libXi libXrandr >&2
else
    printf 'kiln: install Xvfb by hand, or leave out KILN_REQUIRE_WINDOW\n' >&2
    exit 1
fi
