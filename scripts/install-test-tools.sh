#!/usr/bin/env bash
# Installs what the tests need beyond the server: grpcurl, and for the system's python3 numpy, what notebooks
# use (matplotlib, pandas, Pillow, IPython), and the standard library's own test suite.
set -euo pipefail

# The last release that the Go of Debian 12 builds.
grpcurl_version=v1.8.9

. "$(dirname "$0")/apt.sh"

system_python=/usr/bin/python3
[ -x "$system_python" ] || system_python=/usr/local/bin/python3
"$system_python" -c 'import numpy' 2>/dev/null || apt_install --no-install-recommends python3-numpy
"$system_python" -c 'import matplotlib, pandas, PIL, IPython' 2>/dev/null ||
    apt_install --no-install-recommends python3-matplotlib python3-pandas python3-pil python3-ipython

# Distributions keep the test suite apart: Debian in libpython3.11-testsuite, Fedora in python3-test.
if ! "$system_python" -c 'import test.test_bisect' 2>/dev/null; then
    version=$("$system_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install --no-install-recommends "libpython$version-testsuite"
fi

if ! have grpcurl; then
    have go || apt_install --no-install-recommends golang-go ca-certificates
    say "building grpcurl $grpcurl_version"
    bin=/usr/local/bin
    [ -w "$bin" ] || bin="$HOME/.local/bin"
    mkdir -p "$bin"
    GOBIN=$bin go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version" </dev/null
    if ! have grpcurl; then
        say "grpcurl is in $bin, which is not in PATH"
        exit 1
    fi
fi
