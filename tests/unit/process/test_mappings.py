"""What the process has mapped, and what of it is in memory."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsedge.process.mappings import Mapping, mappings

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts"
)
PAGES = 4


def test_it_is_the_kernels_own_account(tmp_path: Path) -> None:
    with _mapped(tmp_path / "data file", mmap.PROT_READ) as start:
        found = _at(start)
        assert found.path == str(tmp_path / "data file")
        assert (found.size, found.access, found.offset) == (PAGES * mmap.PAGESIZE, "r--p", 0)
        assert found.resident == PAGES * mmap.PAGESIZE
        assert not found.written


def test_pages_that_were_written_are_no_longer_the_files(tmp_path: Path) -> None:
    """As a loader's relocations are: written, and only then made read-only."""
    with _mapped(tmp_path / "library", mmap.PROT_READ | mmap.PROT_WRITE) as start:
        assert not _at(start).written
        ctypes.memset(start, 7, 1)
        _protect(start, mmap.PROT_READ)
        found = _at(start)
        assert (found.access, found.written) == ("r--p", True)


def test_what_is_dropped_comes_back_from_the_file(tmp_path: Path) -> None:
    with _mapped(tmp_path / "weights", mmap.PROT_READ) as start:
        assert _at(start).drop() == PAGES * mmap.PAGESIZE
        assert _at(start).resident == 0
        assert ctypes.string_at(start, 2) == b"\x00\x00"


def _at(start: int) -> Mapping:
    every = mappings(lambda path: path.startswith("/"))
    return next(one for one in every if one.start <= start < one.start + one.size)


def _protect(start: int, access: int) -> None:
    size = ctypes.c_size_t(PAGES * mmap.PAGESIZE)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), size, access) == 0


@contextmanager
def _mapped(path: Path, access: int) -> Iterator[int]:
    """The address of a private mapping of `path`, every page of it read."""
    path.write_bytes(bytes(PAGES * mmap.PAGESIZE))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=access | mmap.PROT_WRITE)
    held = ctypes.c_char.from_buffer(mapped)
    start = ctypes.addressof(held)
    _protect(start, access)
    ctypes.string_at(start, PAGES * mmap.PAGESIZE)
    try:
        yield start
    finally:
        del held
        mapped.close()
