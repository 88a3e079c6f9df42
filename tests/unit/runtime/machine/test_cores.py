"""Cores by affinity and quota, and how busy others keep them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsedge.runtime.machine.cores import CpuMeter, Quota, find_quota, usable_cores
from tests.fakes import FakeClock

CPUS = sorted(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    """The files that a kernel would show."""

    def __init__(self, folder: Path, group: str) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self.write(self.proc / "self/cgroup", group)
        self.busy(0)

    def busy(self, seconds: float, *, nice_s: float = 0.0) -> None:
        """Processor time taken by anybody, on the first of our cores."""
        row = [int(seconds * TICKS), int(nice_s * TICKS), 0, 999, 999, 0, 0, 0, 55, 0]
        first, other = CPUS[0], max(CPUS) + 1
        text = "cpu  1 2 3 4 5 6 7 8 9 10\n" + "".join(
            f"cpu{cpu} {' '.join(map(str, row))}\n" for cpu in (first, other)
        )
        self.write(self.proc / "stat", text + "intr 5 6\n\n")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

    def quota(self) -> Quota | None:
        return find_quota(self.proc, self.cgroups)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("max 100000\n", None), ("odd\n", None)],
)
def test_a_quota_of_cgroup_version_2(tmp_path: Path, text: str, cores: float | None) -> None:
    machine = Machine(tmp_path, "0::/app.slice/nsedge.service\n")
    machine.write(tmp_path / "cgroup/app.slice/nsedge.service/cpu.max", text)
    quota = machine.quota()
    assert (None if quota is None else quota.cores) == cores


def test_the_tightest_quota_above_binds(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/app.slice/nsedge.service\n")
    machine.write(tmp_path / "cgroup/app.slice/nsedge.service/cpu.max", "800000 100000\n")
    machine.write(tmp_path / "cgroup/app.slice/cpu.max", "300000 100000\n")
    machine.write(tmp_path / "cgroup/app.slice/cpu.stat", "usage_usec 2500000\nuser_usec 5\n")
    quota = machine.quota()
    assert quota is not None
    assert (quota.cores, quota.used_s()) == (3.0, 2.5)


def test_a_quota_of_cgroup_version_1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "5:cpuset:/\n4:cpu,cpuacct:/box\n1:name=systemd:/box\n")
    machine.write(tmp_path / "cgroup/cpu/box/cpu.cfs_quota_us", "250000\n")
    machine.write(tmp_path / "cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    machine.write(tmp_path / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    machine.write(tmp_path / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    machine.write(tmp_path / "cgroup/cpuacct/box/cpuacct.usage", "7500000000\n")
    quota = machine.quota()
    assert quota is not None
    assert (quota.cores, quota.used_s()) == (2.5, 7.5)


@pytest.mark.parametrize("path", ["/docker/0123", "/../../other"])
def test_a_group_outside_this_view_is_read_at_the_root(tmp_path: Path, path: str) -> None:
    machine = Machine(tmp_path, f"0::{path}\n")
    machine.write(tmp_path / "cgroup/cpu.max", "100000 100000\n")
    quota = machine.quota()
    assert quota is not None
    assert quota.cores == 1.0
    assert quota.used_s() is None  # no cpu.stat beside it


def test_without_a_proc_there_is_no_quota(tmp_path: Path) -> None:
    assert find_quota(tmp_path, tmp_path) is None


def test_this_machine_has_a_core() -> None:
    assert 1 <= usable_cores() <= len(CPUS)


def meter(machine: Machine, clock: FakeClock, own: list[float]) -> CpuMeter:
    return CpuMeter(
        proc=machine.proc, cgroups=machine.cgroups, clock=clock, own=lambda: own[0], own_nice=0
    )


def test_others_on_our_cores_leave_less(tmp_path: Path) -> None:
    machine, clock, own = Machine(tmp_path, ""), FakeClock(), [0.0]
    watched = meter(machine, clock, own)
    clock.advance(2.0)
    own[0] = 1.0
    machine.busy(2.5)  # 1.5 s of it others', in 2 s
    assert watched.free() == pytest.approx(len(CPUS) - 0.75)
    clock.advance(1.0)
    assert watched.free() == len(CPUS)


@pytest.mark.parametrize(("own_nice", "taken"), [(0, 0.25), (5, 0.75)])
def test_work_that_gives_way_takes_nothing(tmp_path: Path, own_nice: int, taken: float) -> None:
    machine, clock = Machine(tmp_path, ""), FakeClock()
    watched = CpuMeter(
        proc=machine.proc,
        cgroups=machine.cgroups,
        clock=clock,
        own=lambda: 0.0,
        own_nice=own_nice,
    )
    clock.advance(1.0)
    machine.busy(0.25, nice_s=0.5)
    assert watched.free() == pytest.approx(len(CPUS) - taken)


def test_others_under_our_quota_leave_less(tmp_path: Path) -> None:
    machine, clock, own = Machine(tmp_path, "0::/box\n"), FakeClock(), [0.0]
    machine.write(tmp_path / "cgroup/box/cpu.max", "60000 100000\n")
    machine.write(tmp_path / "cgroup/box/cpu.stat", "usage_usec 0\n")
    watched = meter(machine, clock, own)
    clock.advance(1.0)
    own[0] = 0.25
    machine.write(tmp_path / "cgroup/box/cpu.stat", "usage_usec 500000\n")
    assert watched.free() == pytest.approx(0.6 - 0.25)


def test_what_cannot_be_read_takes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    watched = CpuMeter(proc=tmp_path, cgroups=tmp_path, clock=clock, own=lambda: 0.0)
    clock.advance(1.0)
    assert watched.free() == len(CPUS)


def test_two_readings_at_one_time_tell_nothing(tmp_path: Path) -> None:
    machine, clock, own = Machine(tmp_path, ""), FakeClock(), [0.0]
    watched = meter(machine, clock, own)
    machine.busy(3)
    assert watched.free() == len(CPUS)


def test_the_real_files_can_be_read() -> None:
    watched = CpuMeter()
    usage = watched.read()
    assert usage.busy_s is None or usage.busy_s > 0
    assert 0 <= watched.free() <= len(CPUS)
