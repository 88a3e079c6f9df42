"""A quick start: what a process of ours does while it imports what a command needs."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
INTERRUPTED = 130
"""128 and SIGINT, as shells say it."""


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without what would only take time from it.

    - What imports make stays for as long as the process does: the garbage collector finds nothing
      in it, neither meanwhile nor, since it is frozen, whenever it runs later.
    - NumPy's OpenBLAS starts a thread a core, which spin until they are asked for the first
      product; no model's products are NumPy's. Who sets OPENBLAS_NUM_THREADS gets as many.
    - Ctrl-C ends the process at once: nothing is under way yet, and a module that is interrupted
      may take it for anything.
    """
    os.environ.setdefault(_BLAS_THREADS, "1")
    collects = gc.isenabled()
    gc.disable()
    try:
        with _ended_by_interrupts():
            yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextlib.contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Where nobody else hears SIGINT, it ends the process meanwhile."""
    heard = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or heard is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
