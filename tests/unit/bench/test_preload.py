"""The replay of traces, on traces whose outcome can be counted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.preload import FREE, HABITS, Memory, Replay, compare, read

MEMORY = Memory(room=2, top=1, keep_alive_s=100.0)


def test_without_preloading_only_what_stayed_is_there() -> None:
    trace = [(0.0, "a"), (50.0, "a"), (200.0, "a"), (210.0, "b"), (220.0, "c"), (230.0, "a")]
    tally = Replay(MEMORY, FREE).run(trace)
    assert (tally.requests, tally.hits) == (6, 1)
    assert (tally.guesses, tally.wasted) == (0, 0)


def test_a_strict_order_is_learnt() -> None:
    trace = [(number * 80.0, "abc"[number % 3]) for number in range(99)]
    assert Replay(MEMORY, FREE).run(trace).hits == 0
    tally = Replay(MEMORY, "patterns").run(trace)
    assert tally.hits > 80
    assert tally.guesses >= tally.hits


@pytest.mark.parametrize("name", HABITS)
def test_traces_are_in_order_and_repeatable(name: str) -> None:
    trace = HABITS[name](random.Random(7))
    assert trace == HABITS[name](random.Random(7))
    times = [at_s for at_s, _ in trace]
    assert times == sorted(times)
    found = compare([trace[:200]], MEMORY)
    assert found[FREE]["avoided"] == 0.0
    assert all(0.0 <= one["hit_rate"] <= 1.0 for one in found.values())


def test_a_trace_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("20.5 b\n\n10 a\n")
    assert read(tmp_path / "t") == [(10.0, "a"), (20.5, "b")]
