"""What this process has mapped, as Linux tells; nothing elsewhere."""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAPS, _PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")
# Documentation/admin-guide/mm/pagemap.rst: an entry a page; one of a file that is in memory, or
# swapped out, and is no longer the file's own was written to.
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
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
    resident: int
    written: bool
    """Whether it holds pages that are no longer the file's."""

    def drop(self) -> int:
        """Let go of its pages; how many bytes those were."""
        start, size = ctypes.c_void_p(self.start), ctypes.c_size_t(self.size)
        return self.resident if _libc.madvise(start, size, mmap.MADV_DONTNEED) == 0 else 0


def mappings(wanted: Callable[[str], bool]) -> Iterator[Mapping]:
    """Those of the files whose paths are `wanted`, in the order of their addresses.

    /proc/self/smaps would tell the same, having walked all that this process holds.

    Raises:
        OSError: where there is no /proc.
    """
    with _PAGEMAP.open("rb") as pages:
        for line in _lines():
            words = line.split(maxsplit=5)
            if len(words) == 6 and wanted(words[5]):
                yield _read(words, pages)


def _lines() -> list[str]:
    return _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _read(words: list[str], pages: BinaryIO) -> Mapping:
    """A mapping: its line (addresses, access, offset, device, inode, path), and its pages."""
    start, end = (int(address, 16) for address in words[0].split("-"))
    entries = array("Q")
    pages.seek(start // mmap.PAGESIZE * entries.itemsize)
    entries.frombytes(pages.read((end - start) // mmap.PAGESIZE * entries.itemsize))
    kinds = Counter(entry & (_PRESENT | _SWAPPED | _OF_FILE) for entry in entries)
    return Mapping(
        start=start,
        size=end - start,
        access=words[1],
        path=words[5],
        offset=int(words[2], 16),
        resident=sum(count for kind, count in kinds.items() if kind & _PRESENT) * mmap.PAGESIZE,
        written=any(kind & (_PRESENT | _SWAPPED) and not kind & _OF_FILE for kind in kinds),
    )
