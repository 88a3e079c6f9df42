"""A quick start: what a process of ours does while it imports what a command needs."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without what would only take time from it.

    - What imports make stays for as long as the process does: the garbage collector finds nothing
      in it, neither meanwhile nor, since it is frozen, whenever it runs later.
    - NumPy's OpenBLAS starts a thread a core, which spin until they are asked for the first
      product; no model's products are NumPy's. Who sets OPENBLAS_NUM_THREADS gets as many.
    """
    os.environ.setdefault(_BLAS_THREADS, "1")
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
