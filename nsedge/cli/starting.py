"""A quick start: what a process of ours does while it imports what a command needs."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""Where OpenSSL looks for the certificates to trust by default."""


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without what would only take time from it.

    - What imports make stays for as long as the process does: the garbage collector finds nothing
      in it, neither meanwhile nor, since it is frozen, whenever it runs later.
    - NumPy's OpenBLAS starts a thread a core, which spin until they are asked for the first
      product; no model's products are NumPy's. Who sets OPENBLAS_NUM_THREADS gets as many.
    - aiohttp makes two contexts for clients of HTTPS as it is imported, and has each read all
      authorities there are; none of ours is such a client.
    """
    os.environ.setdefault(_BLAS_THREADS, "1")
    collects = gc.isenabled()
    gc.disable()
    try:
        with _environment(_NO_AUTHORITIES):
            yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables that are so for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
