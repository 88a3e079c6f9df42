"""What the process has mapped, and the code it lets go of."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsedge.process.mappings import Mapping, drop_code, mappings

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts"
)
PAGES = 4


def test_code_is_let_go_of_and_runs_on() -> None:
    before = _held_of_code()
    assert drop_code() > before // 2
    assert _held_of_code() < before


def test_it_is_the_kernels_own_account(tmp_path: Path) -> None:
    with _mapped(tmp_path / "data file", mmap.PROT_READ) as start:
        found = _at(start)
        assert found.path == str(tmp_path / "data file")
        assert (found.size, found.access, found.offset) == (PAGES * mmap.PAGESIZE, "r--p", 0)
        assert found.resident == PAGES * mmap.PAGESIZE
        assert not found.written


def test_files_without_code_are_left_alone(tmp_path: Path) -> None:
    with _mapped(tmp_path / "data", mmap.PROT_READ) as start:
        drop_code()
        assert _at(start).resident == PAGES * mmap.PAGESIZE


def test_pages_that_were_written_stay_as_they_are(tmp_path: Path) -> None:
    """As a loader's relocations are: written, and only then made read-only."""
    code, relocated = tmp_path / "library", mmap.PROT_READ | mmap.PROT_WRITE
    with _mapped(code, mmap.PROT_READ | mmap.PROT_EXEC), _mapped(code, relocated) as start:
        ctypes.memset(start, 7, 1)
        _protect(start, mmap.PROT_READ)
        assert _at(start).access == "r--p"
        drop_code()
        assert ctypes.string_at(start, 2) == b"\x07\x00"


def test_the_code_of_a_library_is_let_go_of(tmp_path: Path) -> None:
    code = tmp_path / "library"
    with _mapped(code, mmap.PROT_READ | mmap.PROT_EXEC) as start:
        drop_code()
        assert _at(start).resident == 0
        assert ctypes.string_at(start, 2) == b"\x00\x00"


def _held_of_code() -> int:
    return sum(
        one.resident
        for one in mappings(lambda path: path.startswith("/"))
        if "x" in one.access and not one.written
    )


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
