#!/usr/bin/env bash
# Installs what the server needs and this machine lacks: runsc, python3 and bash.
# What is there stays as it is, whatever its version.
set -euo pipefail

gvisor_instructions=https://gvisor.dev/docs/user_guide/install/

. "$(dirname "$0")/apt.sh"

# "debian 12", "ubuntu 24.04", or "unknown".
distribution() {
    if [ -r /etc/os-release ]; then
        (. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
    else
        echo unknown
    fi
}

install_runsc() {
    case "$(distribution)" in
    "debian 12")
        # bookworm's own runsc is of 2022; backports has the one that sandpool is tested with.
        add_backports
        apt_install -t bookworm-backports runsc
        ;;
    "debian 13")
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
    apt_install "${missing[@]}"
fi
