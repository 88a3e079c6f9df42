"""Figures of an hour of sound, by its quarters."""

from __future__ import annotations

from bench.long_live import told
from bench.playing import Late, Played

SECONDS = 400.0


def played(*finals: float) -> Played:
    """A stretch of speech that ends in the midst of each quarter, its last words that late."""
    found = [Late(50.0 + 100.0 * number, seconds) for number, seconds in enumerate(finals)]
    return Played(first=found[:1], final=found)


def test_each_quarter_has_its_figures() -> None:
    grown = [(0.0, 1.0), (99.0, 30.0), (100.0, 31.0), (250.0, 31.5), (401.0, 32.04)]
    found = told(played(0.5, 0.5, 0.5, 0.6), grown, SECONDS)
    assert found["growth_mib"] == [30.0, 31.0, 31.5, 32.0]
    assert [part["n"] for part in found["first_words_s"]] == [1, 0, 0, 0]
    assert [part["p50"] for part in found["final_s"]] == [0.5, 0.5, 0.5, 0.6]
    assert found["flat"]
    assert found["in_time"]


def test_what_grows_or_falls_behind_is_told() -> None:
    assert not told(played(0.5, 0.5, 0.5, 0.6), [(10.0, 200.0)], SECONDS)["flat"]
    assert not told(played(0.5, 0.5, 0.5, 0.8), [(10.0, 1.0)], SECONDS)["in_time"]
    assert not told(played(0.5), [(10.0, 1.0)], SECONDS)["in_time"], "nothing was said at the end"
