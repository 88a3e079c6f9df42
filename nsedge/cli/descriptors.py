"""How many files and connections this process may have open."""

from __future__ import annotations

import resource


def allow_all() -> None:
    """Raise the soft limit to the hard one.

    Every connection is a descriptor, libzmq ends a process whose ipc socket has none left to accept
    with, and the usual soft limit is 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
