"""Connections that would take the last descriptors of this process.

libzmq ends a process whose ipc listener finds no descriptor left to accept with
(`src/ipc_listener.cpp`, 4.3.5), and cannot be told how many connections to take. So those beyond a
ceiling are closed as soon as they are there, and what is below it goes on.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from nsedge.process import descriptors

log = logging.getLogger(__name__)

TELL_S = 10.0
"""Between two lines about connections that were turned away."""


class Ceiling:
    """Told of each connection that libzmq accepts; counts those that it turns away."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.turned_away = 0
        self._told_s: float | None = None

    def accepted(self, descriptor: int) -> None:
        """Turn a new connection away where it is one too many. The kernel gives the lowest number
        that is free: its own tells how many are taken."""
        limit = descriptors.limit()
        if limit is None or descriptor < descriptors.ceiling(limit):
            return
        if _hang_up(descriptor):
            self.turned_away += 1
            self._tell(limit)

    def _tell(self, limit: int) -> None:
        now_s = self._clock()
        if self._told_s is None or now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            log.warning(
                "connections are turned away: nearly all descriptors are in use",
                extra={"turned_away": self.turned_away, "limit": limit},
            )


def _hang_up(descriptor: int) -> bool:
    """Whether there was a connection to end. libzmq sees its end, and closes it.

    By now the number may belong to something newer: a connection there is beyond the ceiling too,
    and a file is left alone.
    """
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # closed already, or no socket
        return False
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # gone already
        return False
    finally:
        connection.detach()
    return True
