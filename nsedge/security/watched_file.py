"""A file that may change while the program runs: read anew when it does, kept when that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from nsedge.errors import ConfigInvalid

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_S = 1.0
_Mark = tuple[int, int, int]


class WatchedFile(Generic[T]):
    """The value that `read` makes of `path`, which is looked at at most every `look_s` seconds.

    - also: further files that `read` looks into, and that change with it.

    A file that goes bad while it is in use changes nothing but the log: the last good value stays.

    Raises:
        ConfigInvalid: what `read` raises, the first time.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        *,
        also: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
        look_s: float = LOOK_S,
    ) -> None:
        self.path = path
        self._read = read
        self._clock = clock
        self._look_s = look_s
        self._files = (path, *also)
        self._mark = tuple(map(_mark, self._files))
        self._value = read(path)
        self._looked_s = clock()

    def value(self) -> T:
        """The value as of the last look."""
        now_s = self._clock()
        if now_s - self._looked_s >= self._look_s:
            self._looked_s = now_s
            self.look()
        return self._value

    def look(self) -> None:
        """Read the file again now, if it changed."""
        mark = tuple(map(_mark, self._files))
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._value = self._read(self.path)
        except ConfigInvalid as error:
            log.error("what was read before stays in force: %s", error.message)
        else:
            log.info("read again", extra={"file": str(self.path)})


def _mark(path: Path) -> _Mark | None:
    """The mark that tells one version of a file from the next; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
