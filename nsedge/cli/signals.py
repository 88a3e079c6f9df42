"""Being asked to stop, by signals or by the end of standard input; and to read settings anew."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to its end, as asyncio.run does, a process that then ends too: signals to stop that come
    meanwhile are ignored.

    asyncio closes what it hears of signals through before it takes its handlers away. One that came
    between the two, as it does where two processes end each other, was told as a traceback.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        try:
            return runner.run(main)
        finally:
            for number in (*STOP_SIGNALS, signal.SIGHUP):
                if loop.remove_signal_handler(number):
                    signal.signal(number, signal.SIG_IGN)


class StopRequests:
    """Sets `wanted` at the first request to stop, `hurried` at the second; needs a running loop."""

    def __init__(self, *, until_eof: bool = False) -> None:
        self.wanted = asyncio.Event()
        self.hurried = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self.ask)
        if until_eof:
            self._loop.add_reader(sys.stdin.fileno(), self._read_input)

    def ask(self) -> None:
        """Stop; asked again, stop sooner."""
        (self.hurried if self.wanted.is_set() else self.wanted).set()

    def _read_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._loop.remove_reader(sys.stdin.fileno())
            self.wanted.set()


class ReloadRequests:
    """Sets `wanted` at SIGHUP; needs a running loop.

    At a terminal the signal says that it was closed, and ends the process as it always does.
    """

    def __init__(self, *, terminal: bool | None = None) -> None:
        self.wanted = asyncio.Event()
        if not (_has_terminal() if terminal is None else terminal):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self.wanted.set)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
