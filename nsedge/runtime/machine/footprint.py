"""What a model holds of this process's memory, measured while nothing else is loaded or dropped.

Models load one at a time. What the process grows by meanwhile is the new model's, less what the
caches of those at work grow by; their arenas are as large as they get, since each model runs its
largest steps before it is ready.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.machine.cgroups import PROC

_libc = ctypes.CDLL(None, use_errno=True)


def rss_bytes(proc: Path = PROC) -> int:
    """Resident memory of this process; 0 where /proc does not tell."""
    try:
        pages = int((proc / "self" / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def children_bytes(proc: Path = PROC) -> int:
    """What the processes that this one started hold in memory and share with nobody; 0 where /proc
    does not tell."""
    pages = 0
    for listed in (proc / "self" / "task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):  # a thread, or a process, that has ended
            for pid in listed.read_text(encoding="ascii").split():
                _, resident, shared, *_ = (proc / pid / "statm").read_text("ascii").split()
                pages += int(resident) - int(shared)
    return pages * os.sysconf("SC_PAGE_SIZE")


def resident_bytes(array: NDArray[np.generic]) -> int:
    """How much of `array`, memory of its own from `memory.reserve`, has been written so far.

    All of it where the kernel does not tell.
    """
    page = mmap.PAGESIZE
    start = array.ctypes.data // page * page
    size = array.ctypes.data + array.nbytes - start
    pages = -(-size // page)
    seen = np.zeros(pages, np.uint8)
    with contextlib.suppress(AttributeError):  # no mincore
        address = ctypes.c_void_p(start)
        if _libc.mincore(address, ctypes.c_size_t(size), ctypes.c_void_p(seen.ctypes.data)) == 0:
            return int(np.count_nonzero(seen & 1)) * page
    return array.nbytes


class Growth:
    """How much this process has grown since it was last asked, less what is accounted for."""

    def __init__(self, elsewhere: Callable[[], int]) -> None:
        """`elsewhere` gives the bytes of all that may grow meanwhile and is measured by itself."""
        self._elsewhere = elsewhere
        self._last = rss_bytes() - elsewhere()

    def take(self) -> int:
        """Bytes, at least 0."""
        now = rss_bytes() - self._elsewhere()
        grown, self._last = now - self._last, now
        return max(0, grown)
