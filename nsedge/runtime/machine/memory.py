"""Memory: reserved for keys and values, and given back where it is no longer needed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import resource
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nsedge.process.mappings import Mapping, mappings
from nsedge.runtime.machine.cgroups import CGROUPS, PROC, groups

_libc = ctypes.CDLL(None)
for _name in ("mmap", "mremap"):
    if hasattr(_libc, _name):
        getattr(_libc, _name).restype = ctypes.c_void_p

OWN_BLOCK_BYTES = 256 * 1024
KEPT_SHARE = 0.05
"""How much of the machine's memory, or of a limit on it, should stay free."""
_CACHED = {True: "inactive_file", False: "total_inactive_file"}
"""What a control group counts as used, and the kernel takes back first: by version 2 and 1."""
# malloc.h, and DEFAULT_MMAP_THRESHOLD_MAX on 64 bits.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_THRESHOLD = 32 * 2**20
# sys/mman.h, on Linux.
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MAP_FAILED = 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1
_DELETED = " (deleted)"

Range = tuple[str, int]
"""A mapped file, and where in it a mapping begins."""


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """A writable array of zeros whose pages are the kernel's until they are first written.

    NumPy asks for huge pages. A sequence of a few hundred tokens would then hold 2 MiB in every
    array it touches, mostly unwritten; small pages decode as fast.
    """
    wanted = np.dtype(dtype)
    size = max(1, math.prod(shape) * wanted.itemsize)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        block.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(block, wanted, math.prod(shape)).reshape(shape)


def release(array: NDArray[np.generic]) -> None:
    """Give the pages of an array from `reserve` back; it is all zeros again, where that can be."""
    address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    _libc.madvise(address, size, mmap.MADV_DONTNEED)


def trim() -> None:
    """Give back what the C allocator keeps of memory that was freed; glibc only."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def one_heap() -> None:
    """Have all threads that begin from now on allocate from one heap; glibc only.

    By its own choice glibc gives each thread another. What reading a tokenizer leaves free between
    what it keeps is then of no use to steps, which run on another thread.
    """
    _mallopt(_ARENA_MAX, 1)


@contextlib.contextmanager
def blocks_of_their_own() -> Iterator[None]:
    """Have what is allocated meanwhile, from OWN_BLOCK_BYTES on, go back to the kernel whole when
    it is freed; glibc only.

    glibc learns from large blocks that are freed to take the next ones from its heaps, where what a
    model leaves behind is kept in pieces. Afterwards blocks come from the heaps, as those that a
    step frees at once should, up to the size that glibc would learn at most.
    """
    _mallopt(_MMAP_THRESHOLD, OWN_BLOCK_BYTES)
    try:
        yield
    finally:
        _mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        _mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


def _mallopt(option: int, value: int) -> None:
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(option, value)


def drop_mapped(folder: Path) -> int:
    """Let go of the pages that mappings of files below `folder` hold; how many bytes those were.

    ONNX Runtime maps weights, packs them into memory of its own, and leaves the map behind. What
    is read again comes back from the page cache. A mapping that was written to is left alone.
    """
    prefix = f"{folder.resolve()}/"
    dropped = 0
    with contextlib.suppress(OSError):  # no /proc: nothing is known of the mappings
        for mapping in mappings(lambda path: path.startswith(prefix)):
            if not mapping.written:
                dropped += mapping.drop()
    return dropped


def detach(folder: Path, only: Collection[Range] | None = None) -> frozenset[Range]:
    """Give mappings of files below `folder` memory of their own, in place and with what they hold:
    those of which something was read since `drop_mapped`, or those of the ranges `only`. Which they
    were.

    Whoever reads a mapping of a file that is cut short is killed (SIGBUS), and what is written to
    the file shows in it. What was detached no longer follows the file.
    """
    prefix = f"{folder.resolve()}/"
    ranges = set()
    with contextlib.suppress(OSError):  # no /proc: nothing is known of the mappings
        for mapping in list(mappings(lambda path: path.startswith(prefix))):
            range_ = mapping.path.removesuffix(_DELETED), mapping.offset
            wanted = mapping.resident > 0 if only is None else range_ in only
            if wanted:
                _replace(mapping)
                ranges.add(range_)
    return frozenset(ranges)


def _replace(mapping: Mapping) -> None:
    """Move a copy to where `mapping` is, in one go: it can be read all the while.

    Raises:
        MemoryError: there is none for the copy; the mapping is as it was.
    """
    size = ctypes.c_size_t(mapping.size)
    none = ctypes.c_void_p(None)
    access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    copy = _libc.mmap(none, size, access, kind, -1, ctypes.c_long(0))
    if copy in (None, _MAP_FAILED):
        raise MemoryError(f"{mapping.size} bytes of {mapping.path} cannot be held in memory")
    ctypes.memmove(copy, mapping.start, mapping.size)
    how = _MREMAP_MAYMOVE | _MREMAP_FIXED
    place = ctypes.c_void_p(mapping.start)
    moved = _libc.mremap(ctypes.c_void_p(copy), size, size, how, place)
    if moved != mapping.start:
        raise MemoryError(f"{mapping.path} cannot be replaced in memory")


def available(proc: Path = PROC, mount: Path = CGROUPS) -> int | None:
    """Bytes that the machine, this process's cgroups and its address space still allow;
    None where nothing tells."""
    return min((left for left, _ in _bounds(proc, mount)), default=None)


def spare(proc: Path = PROC, mount: Path = CGROUPS) -> int | None:
    """Bytes that are left beyond KEPT_SHARE of each bound; below zero where memory is short, None
    where nothing tells."""
    beyond = (left - int(whole * KEPT_SHARE) for left, whole in _bounds(proc, mount))
    return min(beyond, default=None)


def _bounds(proc: Path, mount: Path) -> Iterator[tuple[int, int]]:
    """What binds this process, in bytes: what is left of each, and the whole."""
    with contextlib.suppress(OSError):  # no /proc
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        sizes = {words[0]: int(words[1]) * 1024 for line in lines if len(words := line.split()) > 1}
        if "MemAvailable:" in sizes:
            yield sizes["MemAvailable:"], sizes.get("MemTotal:", 0)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            pages = int((proc / "self" / "statm").read_text(encoding="ascii").split()[0])
            yield max(0, limit - pages * mmap.PAGESIZE), limit
    for group in groups("memory", proc=proc, mount=mount):
        v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        files = ("memory.max", "memory.current") if group.unified else v1
        match tuple(word for file in files for word in group.numbers("memory", file)):
            case (int(limit), int(used)):
                cached = group.counts("memory", "memory.stat").get(_CACHED[group.unified], 0)
                yield max(0, limit - max(0, used - cached)), limit
