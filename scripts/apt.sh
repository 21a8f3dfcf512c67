# shellcheck shell=bash
# Installing Debian's packages; sourced by the scripts that install what is missing.

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

apt_update() {
    as_root apt-get update -qq </dev/null >&2
}

# apt_install [OPTION...] PACKAGE...
apt_install() {
    if ! have apt-get; then
        # shellcheck disable=SC2086
        say install ${*##-*} "with your system's package manager"
        exit 1
    fi
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" </dev/null >&2
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

# Lets apt have what Debian 12 took over from later releases.
add_backports() {
    if has_backports; then return; fi
    # Without lists, as in a new image, apt does not name its mirror.
    apt_update
    local mirror
    mirror=$(debian_mirror bookworm)
    say "adding bookworm-backports to /etc/apt/sources.list.d"
    echo "deb ${mirror:-http://deb.debian.org/debian} bookworm-backports main" |
        as_root tee /etc/apt/sources.list.d/bookworm-backports.list >/dev/null
}
