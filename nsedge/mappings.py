"""What this process has mapped, as Linux tells; nothing elsewhere. Imports nothing large: the shim
uses it, too."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_HEXADECIMAL = "0123456789abcdef"
"""What a mapping's first line begins with, an address; names of fields begin with a capital."""
_libc = ctypes.CDLL(None)


@dataclass(slots=True, kw_only=True)
class Mapping:
    """A mapping; sizes in bytes."""

    start: int
    size: int
    access: str
    """`r-xp`, as in proc(5)."""
    path: str
    """Empty where it is of no file."""
    offset: int
    """In the file."""
    resident: int = 0
    written: bool = False
    """Whether it holds pages that are no longer the file's."""

    def drop(self) -> int:
        """Let go of its pages; how many bytes those were."""
        start, size = ctypes.c_void_p(self.start), ctypes.c_size_t(self.size)
        return self.resident if _libc.madvise(start, size, mmap.MADV_DONTNEED) == 0 else 0


def mappings() -> Iterator[Mapping]:
    """All of them, in the order of their addresses.

    Raises:
        OSError: where there is no /proc.
    """
    current: Mapping | None = None
    with _SMAPS.open(encoding="utf-8", errors="surrogateescape") as smaps:
        for line in smaps:
            if line[0] in _HEXADECIMAL:
                if current is not None:
                    yield current
                current = _beginning(line.split(maxsplit=5))
            elif current is not None and line.startswith("Rss:"):
                current.resident = int(line.split()[1]) * 1024
            elif current is not None and line.startswith("Anonymous:"):
                current.written = line.split()[1] != "0"
    if current is not None:
        yield current


def drop_code() -> int:
    """Let go of the pages held of programs and libraries: much of that code ran only to start. How
    many bytes those were.

    What runs again is mapped again from the page cache, or read from the disk where the kernel gave
    that memory to somebody else meanwhile. Pages that were written to are left alone.
    """
    dropped = 0
    with contextlib.suppress(OSError):  # no /proc: nothing is known of the mappings
        every = [one for one in mappings() if one.path.startswith("/")]
        code = {one.path for one in every if "x" in one.access}
        for one in every:
            if one.path in code and "w" not in one.access and not one.written:
                dropped += one.drop()
    return dropped


def _beginning(words: list[str]) -> Mapping:
    """A mapping, from its first line: addresses, access, offset, device, inode, path."""
    start, end = (int(address, 16) for address in words[0].split("-"))
    path = words[5].rstrip("\n") if len(words) == 6 else ""
    return Mapping(
        start=start, size=end - start, access=words[1], path=path, offset=int(words[2], 16)
    )
