"""What processes hold, by what the kernel tells of them."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import pytest

from bench.peers.memory import Held, held

MIB = 2**20
ROLLUP = """55d0c0000000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]
Rss:                4096 kB
Pss:                3000 kB
Shared_Clean:        512 kB
Private_Clean:       512 kB
Private_Dirty:      2048 kB
Anonymous:          1024 kB
Swap:               3072 kB
SwapPss:            3072 kB
Locked:                0 kB
"""
STATUS = "Name:\tnsedge\nVmPeak:\t   99999 kB\nVmHWM:\t    8192 kB\nThreads:\t3\n"


def process(proc: Path, pid: int, rollup: str = ROLLUP, status: str = STATUS) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "smaps_rollup").write_text(rollup)
    (proc / str(pid) / "status").write_text(status)


def test_what_was_written_is_held_wherever_it_lies(tmp_path: Path) -> None:
    process(tmp_path, 7)
    found = held([7], tmp_path)
    assert found == Held(
        peak_rss=8 * MIB, rss=4 * MIB, private_dirty=(2 + 3) * MIB, anonymous=(1 + 3) * MIB
    )
    assert found.mib() == {
        "peak_mib": 8.0,
        "rss_mib": 4.0,
        "private_dirty_mib": 5.0,
        "anonymous_mib": 4.0,
    }


def test_processes_hold_their_sum(tmp_path: Path) -> None:
    process(tmp_path, 7)
    process(tmp_path, 8, status=STATUS.replace("8192", "1024"))
    found = held([7, 8], tmp_path)
    assert (found.peak_rss, found.private_dirty) == (9 * MIB, 10 * MIB)
    assert held([], tmp_path) == Held(peak_rss=0, rss=0, private_dirty=0, anonymous=0)


def test_a_size_that_is_not_told_is_no_zero(tmp_path: Path) -> None:
    process(tmp_path, 7, rollup=re.sub("Anonymous.*\n", "", ROLLUP))
    with pytest.raises(ValueError, match="7 tells no 'Anonymous'"):
        held([7], tmp_path)
    with pytest.raises(OSError):
        held([8], tmp_path)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's account")
def test_clean_pages_of_a_file_are_resident_and_not_held(tmp_path: Path) -> None:
    path, size = tmp_path / "weights", 32 * MIB
    path.write_bytes(b"w" * size)
    before = held([os.getpid()])
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:: mmap.PAGESIZE] == b"w" * (size // mmap.PAGESIZE)
        read = held([os.getpid()])
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as written:
        for page in range(0, size, mmap.PAGESIZE):
            written[page] = 1
        wrote = held([os.getpid()])
    near = pytest.approx(size, rel=0.25)
    assert read.rss - before.rss == near
    assert read.anonymous - before.anonymous < size / 4
    assert wrote.private_dirty - before.private_dirty == near
    assert wrote.anonymous - before.anonymous == near
