"""How many files and connections this process may have open."""

from __future__ import annotations

import resource

SHARE = 4
"""One descriptor in so many is kept back: for files, and for what comes before anybody looks."""
RESERVE = (16, 16384)
"""The least and the most that is kept back."""


def allow_all() -> None:
    """Raise the soft limit to the hard one.

    Every connection is a descriptor, libzmq ends a process whose ipc socket has none left to accept
    with, and the usual soft limit is 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int | None:
    """How many may be open now; None where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def ceiling(limit: int) -> int:
    """How many of `limit` connections may take, and the first number that none may have."""
    least, most = RESERVE
    return limit - min(max(limit // SHARE, least), most)
