"""The memory of processes, ours and others' by the same reading of /proc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes, as proc_pid_smaps(5) and proc_pid_status(5) tell them.

    The resident size counts clean pages of files, too: of mapped weights and of libraries, which
    the kernel takes back whenever it wants. What it cannot take back is what the process wrote.
    """

    peak_rss: int
    """VmHWM: the most that was ever resident."""
    rss: int
    private_dirty: int
    """Mapped by this process alone and written: by it, or a page of a file by anybody, until that
    is on the disk. On swap, too."""
    anonymous: int
    """Of no file; on swap, too."""

    def __add__(self, other: Held) -> Held:
        return Held(
            peak_rss=self.peak_rss + other.peak_rss,
            rss=self.rss + other.rss,
            private_dirty=self.private_dirty + other.private_dirty,
            anonymous=self.anonymous + other.anonymous,
        )

    def mib(self) -> dict[str, float]:
        """By the names that results have."""
        return {
            "peak_mib": self.peak_rss / KIB**2,
            "rss_mib": self.rss / KIB**2,
            "private_dirty_mib": self.private_dirty / KIB**2,
            "anonymous_mib": self.anonymous / KIB**2,
        }


NOTHING = Held(peak_rss=0, rss=0, private_dirty=0, anonymous=0)


def held(pids: Sequence[int], proc: Path = PROC) -> Held:
    """The memory of the processes together. Pages that several share are in the resident size of
    each.

    Raises:
        OSError: a process is gone.
        ValueError: it tells no such sizes.
    """
    return sum((_held(proc / str(pid)) for pid in pids), NOTHING)


def _held(folder: Path) -> Held:
    rollup, status = _sizes(folder / "smaps_rollup"), _sizes(folder / "status")
    try:
        swapped = rollup["Swap"]
        return Held(
            peak_rss=status["VmHWM"],
            rss=rollup["Rss"],
            private_dirty=rollup["Private_Dirty"] + swapped,
            anonymous=rollup["Anonymous"] + swapped,
        )
    except KeyError as missing:
        raise ValueError(f"{folder} tells no {missing}") from missing


def _sizes(path: Path) -> dict[str, int]:
    """The lines `Name:   12 kB`, in bytes."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        words[0].rstrip(":"): int(words[1]) * KIB
        for words in lines
        if len(words) == 3 and words[2] == "kB"
    }
