#!/bin/sh
# Install nsedge on a plain machine: a program directory of its own, the units, and a start.
# usage: install.sh [--no-start] [SOURCE]
#   SOURCE    a wheel, a checkout or a requirement; the checkout that this file is in by default
#   PREFIX    (environment) where to, /opt/nsedge by default
#   PYTHON    (environment) which Python 3.11 or newer, python3 by default
#   LOCK      (environment) the lock file whose versions and hashes are installed, .locks/daemon.txt
#             of the checkout by default; empty: what pip chooses among those that SOURCE admits
# pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are heeded. Running it again upgrades.
set -eu

prefix=${PREFIX:-/opt/nsedge}
python=${PYTHON:-python3}
start=--now
if [ "${1:-}" = --no-start ]; then
    start=
    shift
fi
checkout=$(cd "$(dirname "$0")/.." && pwd)
source=${1:-$checkout}
lock=${LOCK-$checkout/.locks/daemon.txt}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "needs root: sudo $0"
[ -d /run/systemd/system ] || fail "this machine was not booted with systemd"
"$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is no Python 3.11 or newer with venv (on Debian and Ubuntu: apt install python3-venv)"
[ -z "$lock" ] || [ -r "$lock" ] ||
    fail "$lock is not there; LOCK= has pip choose among the versions that $source admits"

install() {
    "$prefix/bin/python" -m pip install --disable-pip-version-check --quiet "$@"
}

umask 022
[ -x "$prefix/bin/python" ] || "$python" -m venv "$prefix"
if [ -z "$lock" ]; then
    install --upgrade "$source[web]"
else
    install --require-hashes -r "$lock"
    install --no-deps --no-build-isolation --force-reinstall "$source"
    unfit=$("$prefix/bin/python" -m pip check) ||
        fail "$lock does not fit (LOCK= has pip choose among what $source admits): $unfit"
fi
# shellcheck disable=SC2086
"$prefix/bin/nsedge" install-units $start
