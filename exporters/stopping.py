"""Being asked to end, by Ctrl-C or by SIGTERM: as an exception, so that half-made files go."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The process was asked to end."""


class Stops:
    """Remembers which signal came."""

    def __init__(self) -> None:
        self.came: signal.Signals | None = None

    @property
    def status(self) -> int | None:
        """128 and the signal's number, as shells say it; None where none came."""
        return None if self.came is None else 128 + self.came

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Raise; asked again, the process ends at once and says nothing.

        Raises:
            Stopped: always.
        """
        self.came = signal.Signals(number)
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped


@contextmanager
def stops() -> Iterator[Stops]:
    """Raise `Stopped` in the main thread at the first signal to end. Elsewhere, and where nobody is
    to hear of a signal (nohup), nothing changes.

    After a signal the process is to end: handlers stay as the system has them.
    """
    heard = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}
    changed = [each for each, handler in before.items() if handler is not signal.SIG_IGN]
    for each in changed:
        signal.signal(each, heard.stop)
    try:
        yield heard
    finally:
        if heard.came is None:
            for each in changed:
                signal.signal(each, before[each])
