#!/bin/sh
# Make sure that a Vulkan driver fit for kiln is present; install Mesa's software one where there is none, if asked to.
#
# Nothing happens where a driver is found (a GPU's own, or a recent Mesa). On Debian 12 the stock Mesa 22.3 runs the
# kernels about ten times slower than Mesa 25, so there the backports suite is used, taken from the mirror that apt
# already knows. On other distributions the distribution's own package is installed.
set -eu

say() { printf 'kiln: %s\n' "$*" >&2; }

[ "$(uname -s)" = Linux ] || exit 0

manifests() {
    for root in /usr/share /etc /usr/local/share "${XDG_DATA_HOME:-$HOME/.local/share}"; do
        ls "$root"/vulkan/icd.d/*.json 2>/dev/null || true
    done
}

loader_present() { { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1'; }

major_of_mesa() { dpkg-query -W -f='${Version}' mesa-vulkan-drivers 2>/dev/null | sed -E 's/^([0-9]+:)?([0-9]+).*/\2/'; }

driver_present() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    loader_present || return 1
    found=$(manifests)
    [ -n "$found" ] || return 1
    # Only Mesa's CPU driver, and an old one: not good enough.
    if ! printf '%s\n' "$found" | grep -qvE 'lvp_icd|intel|radeon|virtio|gfxstream|nouveau|panfrost|broadcom|freedreno|asahi|powervr|dzn'; then
        if [ ! -e /dev/dri/renderD128 ] && command -v dpkg-query >/dev/null 2>&1; then
            major=$(major_of_mesa)
            [ -z "$major" ] || [ "$major" -ge 24 ] || return 1
        fi
    fi
    return 0
}

driver_present && exit 0

SUDO=
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1; then SUDO=sudo; else
        say "no Vulkan driver found, and installing one needs root: install Mesa's Vulkan drivers (version 24 or newer) and try again"
        exit 1
    fi
fi

. /etc/os-release
say "no usable Vulkan driver found: Mesa's software driver runs kiln on the CPU"
"$(dirname "$0")/may-install.sh" "Mesa's software driver for ${PRETTY_NAME:-this system}" || exit 1

apt_install() { DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y --no-install-recommends "$@" >&2; }

# "URI suite-line" of the mirror that serves Debian's main archive, from deb822 or one-line sources.
debian_mirror() {
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
        tolower($1) == "uris:" { uri = $2 }
        tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == codename) { print uri; exit } }
    ' codename="$VERSION_CODENAME"
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -nE "s/^deb +(\[[^]]*\] +)?([^ ]+) +$VERSION_CODENAME( .*)?$/\2/p"
}

if command -v apt-get >/dev/null 2>&1; then
    if [ "${ID:-}" = debian ] && [ "${VERSION_ID:-0}" = 12 ]; then
        suite="$VERSION_CODENAME-backports"
        if ! grep -rqsw -- "$suite" /etc/apt/sources.list /etc/apt/sources.list.d; then
            mirror=$(debian_mirror | head -n 1)
            if [ -z "$mirror" ]; then
                say "no Debian mirror found in apt's sources: add $suite there and try again"
                exit 1
            fi
            say "adding $suite to apt's sources"
            signed=
            [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] &&
                signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '
            printf 'deb %s%s %s main\n' "$signed" "$mirror" "$suite" |
                $SUDO tee /etc/apt/sources.list.d/kiln-backports.list >/dev/null
        fi
        $SUDO apt-get update -qq >&2
        apt_install libvulkan1
        apt_install -t "$suite" mesa-vulkan-drivers
    else
        $SUDO apt-get update -qq >&2
        apt_install libvulkan1 mesa-vulkan-drivers
    fi
elif command -v dnf >/dev/null 2>&1; then
    $SUDO dnf install -y vulkan-loader mesa-vulkan-drivers >&2
elif command -v pacman >/dev/null 2>&1; then
    $SUDO pacman -S --needed --noconfirm vulkan-icd-loader vulkan-swrast >&2
elif command -v zypper >/dev/null 2>&1; then
    $SUDO zypper --non-interactive install libvulkan1 libvulkan_lvp >&2
elif command -v apk >/dev/null 2>&1; then
    $SUDO apk add vulkan-loader mesa-vulkan-swrast >&2
else
    say "no known package manager: install the Vulkan loader and Mesa's lavapipe by hand"
    exit 1
fi
say "installed: $(manifests | grep -E 'lvp' | head -n 1)"
