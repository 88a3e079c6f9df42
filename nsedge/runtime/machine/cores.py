"""The cores this process may use, and how busy others keep them. Reads Linux's /proc and cgroups.

Where a file is absent, as on other systems or under a strict sandbox, nobody else is seen: every
core by affinity then counts as free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nsedge.runtime.machine.cgroups import CGROUPS, PROC, Group, groups

_NICE, _IDLE, _WAITING = 2, 4, 5
"""Fields of a processor's line in /proc/stat, its name being 0."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A cgroup's bound on processor time."""

    cores: float
    group: Group

    def used_s(self) -> float | None:
        """Processor time that the whole group took; None where it cannot be read."""
        if self.group.unified:
            match self.group.numbers("cpu", "cpu.stat"):
                case (_, int(used_us)):
                    return used_us / 1_000_000
        else:
            match self.group.numbers("cpuacct", "cpuacct.usage"):
                case (int(used_ns),):
                    return used_ns / 1_000_000_000
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
    quota = find_quota()
    return affine if quota is None else max(1, min(affine, int(quota.cores + 0.5)))


def find_quota(proc: Path = PROC, mount: Path = CGROUPS) -> Quota | None:
    """The tightest CPU quota among this process's cgroups and those above; None without one."""
    found = []
    for group in groups("cpu", proc=proc, mount=mount):
        if group.unified:
            words = group.numbers("cpu", "cpu.max")
        else:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = tuple(word for file in files for word in group.numbers("cpu", file))
        match words:
            case (int(quota), int(period)) if quota > 0 and period > 0:
                found.append(Quota(cores=quota / period, group=group))
    return min(found, key=lambda quota: quota.cores, default=None)


def _affinity() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return frozenset(range(os.cpu_count() or 1))
