#!/bin/sh
# Install nsedge on a plain machine: a program directory of its own, the units, and a start.
# usage: install.sh [--no-start] [SOURCE]
#   SOURCE    a wheel, a checkout or a requirement; the checkout that this file is in by default
#   PREFIX    (environment) where to, /opt/nsedge by default
#   PYTHON    (environment) which Python 3.11 or newer, python3 by default
# pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are heeded. Running it again upgrades.
set -eu

prefix=${PREFIX:-/opt/nsedge}
python=${PYTHON:-python3}
start=--now
if [ "${1:-}" = --no-start ]; then
    start=
    shift
fi
source=${1:-$(cd "$(dirname "$0")/.." && pwd)}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "needs root: sudo $0"
[ -d /run/systemd/system ] || fail "this machine was not booted with systemd"
"$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is no Python 3.11 or newer with venv (on Debian and Ubuntu: apt install python3-venv)"

umask 022
[ -x "$prefix/bin/python" ] || "$python" -m venv "$prefix"
"$prefix/bin/python" -m pip install --disable-pip-version-check --quiet --upgrade "$source[web]"
# shellcheck disable=SC2086
"$prefix/bin/nsedge" install-units $start
