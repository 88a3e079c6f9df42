"""Tell the service supervisor how this process stands: the datagrams of sd_notify(3)."""

from __future__ import annotations

import logging
import socket
import time

_log = logging.getLogger(__name__)


class Notifier:
    """Sends state to the supervisor's socket; without one, every call is silent.

    `address` is NOTIFY_SOCKET's value: a path, or `@name` in the abstract namespace. A supervisor
    that went away, or does not read, never stops the daemon: the datagram is dropped and logged.
    """

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else _sockaddr(address)

    def ready(self, status: str) -> None:
        """Start-up is over; `status` is the line a person sees."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def reloading(self, status: str) -> None:
        """The configuration is read anew; `ready` says when that is over."""
        stamp_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={stamp_us}", f"STATUS={_line(status)}")

    def stopping(self, status: str = "draining") -> None:
        """Shut-down has begun."""
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """A line for people about what goes on."""
        self._send(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        """Still alive; due at least once a watchdog interval."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Start-up or shut-down needs up to `seconds` more from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.setblocking(False)
                door.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            _log.warning("the supervisor was not told %s: %s", assignments[0], error)


def _sockaddr(address: str) -> str:
    return f"\0{address[1:]}" if address.startswith("@") else address


def _line(text: str) -> str:
    return " ".join(text.split())
