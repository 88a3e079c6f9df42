"""The cores this process may use, and how busy others keep them. Reads Linux's /proc and cgroups.

Where a file is absent, as on other systems or under a strict sandbox, nobody else is seen: every
core by affinity then counts as free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_NICE, _IDLE, _WAITING = 2, 4, 5
"""Fields of a processor's line in /proc/stat, its name being 0."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A cgroup's bound on processor time."""

    cores: float
    usage: Path
    per_s: int
    """What `usage` counts, in units a second; its number is the last word of its first line."""

    def used_s(self) -> float | None:
        """Processor time that the whole group took; None where it cannot be read."""
        try:
            first = self.usage.read_text(encoding="ascii").splitlines()[0]
            return int(first.split()[-1]) / self.per_s
        except (OSError, ValueError, IndexError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counters of processor time in seconds, read together. Only differences mean anything."""

    at_s: float
    own_s: float
    """This process."""
    busy_s: float | None
    """Anybody, on the cores of this process's affinity; time stolen by a host included. Work at a
    lower priority gives way by itself, and is left out."""
    group_s: float | None
    """Anybody in the cgroup whose quota binds this process."""


class CpuMeter:
    """Tells the cores that others leave to this process."""

    def __init__(
        self,
        *,
        proc: Path = PROC,
        cgroups: Path = CGROUPS,
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
        own_nice: int | None = None,
    ) -> None:
        """`own` tells this process's seconds of processor time; `own_nice` stands for its niceness,
        where it is not to be asked for."""
        self._stat = proc / "stat"
        self._clock = clock
        self._own = own
        self._cpus = frozenset(f"cpu{number}" for number in _affinity())
        self._quota = find_quota(proc, cgroups)
        gives_way = (os.nice(0) if own_nice is None else own_nice) > 0
        self._left_out = (_IDLE, _WAITING) if gives_way else (_IDLE, _WAITING, _NICE)
        self._affine = len(self._cpus)
        self._last = self.read()

    def free(self) -> float:
        """Cores' worth of processor time that others left to this process since the last call.

        Others are those on the same cores, and those under the same quota; the tighter bound
        counts.
        """
        before, after = self._last, self.read()
        self._last = after
        free = self._affine - _others(before, after, before.busy_s, after.busy_s)
        if self._quota is not None:
            free = min(
                free, self._quota.cores - _others(before, after, before.group_s, after.group_s)
            )
        return max(0.0, free)

    def read(self) -> Usage:
        """The counters now."""
        return Usage(
            at_s=self._clock(),
            own_s=self._own(),
            busy_s=self._busy_s(),
            group_s=None if self._quota is None else self._quota.used_s(),
        )

    def _busy_s(self) -> float | None:
        try:
            lines = self._stat.read_text(encoding="ascii").splitlines()
            ticks = sum(
                sum(map(int, words[1:9])) - sum(int(words[field]) for field in self._left_out)
                for words in map(str.split, lines)
                if words and words[0] in self._cpus
            )
        except (OSError, ValueError, IndexError):
            return None
        return ticks / _TICKS_PER_S


def _others(before: Usage, after: Usage, first_s: float | None, last_s: float | None) -> float:
    """Cores' worth that a counter of everybody's time grew by, less this process's own."""
    elapsed_s = after.at_s - before.at_s
    if first_s is None or last_s is None or elapsed_s <= 0:
        return 0.0
    return max(0.0, (last_s - first_s - (after.own_s - before.own_s)) / elapsed_s)


def usable_cores() -> int:
    """Cores by affinity, bounded by the cgroup quota to the nearest whole; at least 1."""
    affine = len(_affinity())
    quota = find_quota(PROC, CGROUPS)
    return affine if quota is None else max(1, min(affine, int(quota.cores + 0.5)))


def find_quota(proc: Path, cgroups: Path) -> Quota | None:
    """The tightest CPU quota among this process's cgroups and those above; None without one.

    Both versions are read: version 2's `cpu.max`, version 1's `cpu.cfs_quota_us`.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found: list[Quota] = []
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            found += (q for d in _levels(cgroups, path) if (q := _quota_v2(d)) is not None)
        elif "cpu" in names.split(","):
            accounts = _levels(cgroups / "cpuacct", path)
            both = zip(_levels(cgroups / "cpu", path), accounts, strict=True)
            found += (q for d, a in both if (q := _quota_v1(d, a)) is not None)
    return min(found, key=lambda quota: quota.cores, default=None)


def _affinity() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return frozenset(range(os.cpu_count() or 1))


def _levels(root: Path, path: str) -> Iterator[Path]:
    """The group's directory and those above, to `root`; `root` alone for one outside this view."""
    inside = PurePosixPath(path).relative_to("/")
    if ".." not in inside.parts:
        while inside != PurePosixPath("."):
            yield root / inside
            inside = inside.parent
    yield root


def _quota_v2(folder: Path) -> Quota | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        if quota == "max":
            return None
        return Quota(cores=int(quota) / int(period), usage=folder / "cpu.stat", per_s=1_000_000)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path, account: Path) -> Quota | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if quota <= 0:
        return None
    return Quota(cores=quota / period, usage=account / "cpuacct.usage", per_s=1_000_000_000)
