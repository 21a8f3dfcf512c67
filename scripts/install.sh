#!/usr/bin/env bash
# Installs what the server needs and this machine lacks: runsc, python3 and bash.
# What is there stays as it is, whatever its version.
set -euo pipefail

gvisor_instructions=https://gvisor.dev/docs/user_guide/install/

say() { echo "install: $*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        say "needs root for: $*"
        exit 1
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" </dev/null >&2
}

apt_update() {
    as_root apt-get update -qq </dev/null >&2
}

# "debian 12", "ubuntu 24.04", or "unknown".
distribution() {
    if [ -r /etc/os-release ]; then
        (. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
    else
        echo unknown
    fi
}

# The mirror that the machine itself uses for its own release, so that no other is needed.
# It is the first address in either of apt's two formats that serves the suite "$1".
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI) $(SUITE) $(CODENAME)' 2>/dev/null |
        awk -v suite="$1" '$2 == suite || $3 == suite { sub(/\/$/, "", $1); print $1; exit }'
}

has_backports() {
    apt-get indextargets --format '$(CODENAME)' 2>/dev/null | grep -qx bookworm-backports ||
        grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d
}

install_runsc() {
    case "$(distribution)" in
    "debian 12")
        # bookworm's own runsc is of 2022; backports has the one that sandpool is tested with.
        if ! has_backports; then
            # Without lists, as in a new image, apt does not name its mirror.
            apt_update
            mirror=$(debian_mirror bookworm)
            line="deb ${mirror:-http://deb.debian.org/debian} bookworm-backports main"
            say "adding bookworm-backports to /etc/apt/sources.list.d"
            echo "$line" | as_root tee /etc/apt/sources.list.d/bookworm-backports.list >/dev/null
        fi
        apt_update
        apt_install -t bookworm-backports runsc
        ;;
    "debian 13")
        apt_update
        apt_install runsc
        ;;
    *)
        say "there is no runsc on this machine: install gVisor as $gvisor_instructions says"
        exit 1
        ;;
    esac
}

have runsc || install_runsc

# Sandboxes see this machine's system directories, so an interpreter elsewhere does not count.
missing=()
[ -x /usr/bin/python3 ] || [ -x /usr/local/bin/python3 ] || missing+=(python3)
[ -x /usr/bin/bash ] || [ -x /bin/bash ] || missing+=(bash)
if [ "${#missing[@]}" -gt 0 ]; then
    if ! have apt-get; then
        say "install ${missing[*]} with your system's package manager"
        exit 1
    fi
    apt_update
    apt_install "${missing[@]}"
fi
