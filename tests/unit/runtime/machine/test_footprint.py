"""What is held is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nsedge.bundle.causal_lm import KvLayout
from nsedge.bundle.files import sha256_of
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.kv import HostKv
from nsedge.runtime.hosting.reading import read_ahead
from nsedge.runtime.machine import footprint
from nsedge.runtime.machine.footprint import Growth, children_bytes, resident_bytes
from nsedge.runtime.machine.memory import release, reserve

PAGE = 4096


def test_only_what_was_written_is_held() -> None:
    array = reserve((64, PAGE), np.uint8)
    assert resident_bytes(array) == 0
    array[3:5] = 1
    assert resident_bytes(array) == 2 * PAGE
    array[:] = 1
    assert resident_bytes(array) == array.nbytes
    release(array)
    assert resident_bytes(array) == 0
    assert not array.any()


def test_a_cache_tells_what_it_takes_and_forgets() -> None:
    layout = KvLayout(layers=2, heads=1, head_dim=64, dtype="float16")
    cache = HostKv(layout, rows=2, capacity=PAGE, dtype="float16")
    assert cache.held().resident == 0
    assert cache.held().reserved == 2 * 2 * 2 * PAGE * 64 * 2
    keys, _ = cache.layers[1]
    keys[0, 0, :32] = 1.0
    assert cache.held().resident == PAGE
    cache.forget()
    assert cache.held().resident == 0


def test_growth_leaves_out_what_is_measured_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rss, elsewhere = [1000], [0]
    monkeypatch.setattr(footprint, "rss_bytes", lambda: rss[0])
    growth = Growth(lambda: elsewhere[0])
    rss[0], elsewhere[0] = 1500, 200
    assert growth.take() == 300
    assert growth.take() == 0
    rss[0] = 900
    assert growth.take() == 0


def test_what_processes_that_were_started_hold_is_told() -> None:
    before = children_bytes()
    holds = "held = bytearray(range(256)) * 2**17; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert children_bytes() - before >= 32 << 20
        child.communicate(b"\n")
    assert children_bytes() - before < 32 << 20


def test_reading_ahead_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 30)
    (tmp_path / "b").write_bytes(b"x" * 10)
    told: list[float] = []
    wanted = {path: sha256_of(path) for path in (tmp_path / "a", tmp_path / "b")}
    read_ahead(wanted, told.append)
    assert told == [0.75, 1.0]
    with pytest.raises(BundleInvalid, match="gone"):
        read_ahead({tmp_path / "gone": ""}, told.append)
    (tmp_path / "b").write_bytes(b"y" * 10)
    with pytest.raises(BundleInvalid, match="b was altered"):
        read_ahead(wanted, told.append)
