"""What an encoder made of media, kept by their names within a budget: the longest unused goes
first."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE

Floats = NDArray[np.float32]


def name_of(media: Media) -> str:
    """What tells a medium from others: the hash of its bytes, and of a frame how they lie."""
    if media.type != RAW_PICTURE:
        return media.sha256
    return f"{media.sha256} {'x'.join(map(str, media.shape))} {media.dtype}"


class RowCache:
    """Rows [tokens, hidden] by name. Thread-safe."""

    def __init__(self, *, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, Floats] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return self._bytes

    def get(self, name: str) -> Floats | None:
        """The rows of a medium, where they are kept."""
        with self._lock:
            rows = self._rows.get(name)
            if rows is not None:
                self._rows.move_to_end(name)
            return rows

    def put(self, name: str, rows: Floats) -> None:
        """Keep the rows of a medium, unless they alone are more than the budget."""
        with self._lock:
            if name in self._rows or rows.nbytes > self.most_bytes:
                return
            self._rows[name] = rows
            self._bytes += rows.nbytes
            while self._bytes > self.most_bytes:
                _, gone = self._rows.popitem(last=False)
                self._bytes -= gone.nbytes

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._rows.clear()
            self._bytes = 0
