"""Memory for keys and values."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nsedge.runtime.machine.memory import available, detach, drop_mapped, reserve, spare, trim

SHAPE = (4, 3, 1024, 64)


def test_it_is_zeros_that_can_be_written() -> None:
    array = reserve(SHAPE, np.float32)
    assert (array.shape, array.dtype) == (SHAPE, np.dtype(np.float32))
    assert array.flags["C_CONTIGUOUS"]
    assert not array.any()
    array[3, 2, 1023, 63] = 1.5
    assert array.sum() == 1.5


def test_an_empty_shape_is_an_empty_array() -> None:
    assert reserve((0, 64), np.int8).shape == (0, 64)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts")
def test_memory_follows_use() -> None:
    array = reserve(SHAPE, np.float32)
    array[1, 0, 0, 0] = 1
    pages = _mapping_of(array.ctypes.data)
    assert "nh" in pages["VmFlags"]
    assert pages["Rss"] == f"{mmap.PAGESIZE // 1024} kB"


def _mapping_of(address: int) -> dict[str, str]:
    """What smaps says of the mapping that holds `address`."""
    found: dict[str, str] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        head, _, rest = line.partition(":")
        if "-" in head.split()[0]:
            first, last = (int(end, 16) for end in head.split()[0].split("-"))
            inside = first <= address < last
        elif inside:
            found[head] = rest.strip()
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts")
def test_mapped_pages_are_let_go_and_come_back(tmp_path: Path) -> None:
    with _mapped(tmp_path / "weights", mmap.ACCESS_COPY) as weights:
        assert weights[:] == bytes(range(256)) * 1024
        assert drop_mapped(tmp_path) == len(weights)
        assert drop_mapped(tmp_path) == 0
        assert weights[:] == bytes(range(256)) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts")
def test_a_mapping_that_was_written_to_is_left_alone(tmp_path: Path) -> None:
    with _mapped(tmp_path / "weights", mmap.ACCESS_COPY) as weights:
        weights[5] = 77
        assert drop_mapped(tmp_path) == 0
        assert weights[5] == 77


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts")
def test_what_was_read_is_held_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with _mapped(path, mmap.ACCESS_COPY) as weights:
        assert detach(tmp_path) == frozenset()
        assert weights[5] == 5
        assert detach(tmp_path) == {(str(path), 0)}
        path.write_bytes(b"")
        assert weights[:] == bytes(range(256)) * 1024
        assert detach(tmp_path) == frozenset()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's page counts")
def test_what_an_earlier_mapping_needed_is_held_of_a_later_one(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with _mapped(path, mmap.ACCESS_COPY) as weights:
        drop_mapped(tmp_path)
        assert detach(tmp_path, {(str(path), 0)}) == {(str(path), 0)}
        path.write_bytes(b"")
        assert weights[-1] == 255


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    with _mapped(tmp_path / "weights", mmap.ACCESS_COPY) as weights:
        assert weights[1] == 1
        assert drop_mapped(tmp_path / "weigh") == 0


def test_trimming_keeps_what_is_in_use() -> None:
    kept = bytearray(range(256)) * 4096
    trim()
    assert kept[255] == 255


ARENAS = """
import ctypes, threading
from nsedge.runtime.machine.memory import one_heap
one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
both = threading.Barrier(2)
def allocate():
    both.wait()
    for _ in range(1000):
        libc.malloc(ctypes.c_size_t(1000))
    both.wait()
for thread in [threading.Thread(target=allocate) for _ in range(2)]:
    thread.start()
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="glibc's account")
def test_threads_share_one_heap() -> None:
    told = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, check=True)
    assert told.stdout.count(b"<heap nr=") == 1


MIB = 2**20
V1_LIMITS = {"memory.limit_in_bytes": 300 * MIB, "memory.usage_in_bytes": 100 * MIB}
V2_LIMITS = {"memory.max": 300 * MIB, "memory.current": 250 * MIB}


@pytest.mark.parametrize(
    ("groups", "folder", "limits", "mib"),
    [
        ("0::/box\n", "box", V2_LIMITS, 50),
        ("4:memory:/box\n", "memory/box", V1_LIMITS, 200),
        ("0::/box\n", "box", {"memory.max": "max", "memory.current": 5}, 400),
        ("0::/box\n", "box", {"memory.max": MIB, "memory.current": 2 * MIB}, 0),
        ("0::/box\n", "box", V2_LIMITS | {"memory.stat": f"anon 1\ninactive_file {9 * MIB}"}, 59),
        ("4:memory:/b\n", "memory/b", V1_LIMITS | {"memory.stat": "total_inactive_file 0"}, 200),
    ],
)
def test_the_tightest_bound_on_memory_counts(
    tmp_path: Path, groups: str, folder: str, limits: dict[str, object], mib: int
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(groups)
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {400 * 1024} kB\n")
    (tmp_path / folder).mkdir(parents=True)
    for name, value in limits.items():
        (tmp_path / folder / name).write_text(f"{value}\n")
    assert available(tmp_path, tmp_path) == mib * MIB


def test_the_limit_of_the_address_space_counts(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/statm").write_text("3 2 1 0 0 0 0\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**50, hard))
    try:
        assert available(tmp_path, tmp_path) == 2**50 - 3 * mmap.PAGESIZE
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_where_nothing_tells_of_memory_nothing_is_known(tmp_path: Path) -> None:
    assert available(tmp_path, tmp_path) is None
    assert spare(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("available_mib", "limit", "used", "left"),
    [(60, "max", 0, 10), (40, "max", 0, -10), (400, 200, 100, 90), (400, 200, 195, -5)],
)
def test_a_twentieth_of_each_bound_is_not_to_be_taken(
    tmp_path: Path, available_mib: int, limit: int | str, used: int, left: int
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/\n")
    sizes = f"MemTotal: {1000 * 1024} kB\nMemAvailable: {available_mib * 1024} kB\n"
    (tmp_path / "meminfo").write_text(f"{sizes}Committed_AS: 1 kB\n")
    whole = limit if isinstance(limit, str) else limit * MIB
    (tmp_path / "memory.max").write_text(f"{whole}\n")
    (tmp_path / "memory.current").write_text(f"{used * MIB}\n")
    assert spare(tmp_path, tmp_path) == left * MIB


@contextlib.contextmanager
def _mapped(path: Path, access: int) -> Iterator[mmap.mmap]:
    path.write_bytes(bytes(range(256)) * 1024)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=access) as mapping:
        yield mapping
