"""Which tokens may come next."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.runtime.speech.rules import Rules
from tests.unit.runtime.speech.rig import ENGLISH, MANY, SIZE, at, said


def allowed(drawn: tuple[int, ...], *, timestamps: bool = True, likely: int = ord("a")) -> set[int]:
    logits = np.zeros(SIZE, np.float32)
    logits[likely] = 50.0  # above the sum of what is of the other kind
    Rules(ENGLISH, timestamps=timestamps).apply(logits, drawn)
    return {int(token) for token in np.flatnonzero(np.isfinite(logits))}


TEXT = set(range(256)) - {ord("#")}
TIMES = set(range(270, SIZE))


def test_a_window_begins_with_a_timestamp_of_the_first_second() -> None:
    assert allowed(()) == set(range(at(0.0), at(1.0) + 1))


def test_text_follows_the_first_timestamp() -> None:
    assert allowed(said(0.0)) == TEXT | {256}


def test_text_goes_on_or_is_closed_later_than_it_began() -> None:
    assert allowed(said(0.5, "ab")) == TEXT | {256} | {each for each in TIMES if each > at(0.5)}


def test_behind_a_closed_segment_another_begins_no_earlier_or_all_ends() -> None:
    drawn, later = said(0.5, "ab", 2.0), {each for each in TIMES if each >= at(2.0)}
    assert allowed(drawn, likely=256) == {256} | later
    assert allowed(drawn, likely=at(2.0)) == later


def test_behind_a_pair_there_is_text() -> None:
    assert allowed(said(0.0, "ab", 2.0, 2.0)) == TEXT | {256}


def test_timestamps_come_where_they_are_likelier_together_than_any_text() -> None:
    drawn = said(0.0, "ab")
    logits = np.zeros(SIZE, np.float32)
    logits[ord("a")] = 7.0  # 1500 timestamps together: log(1500) = 7.31
    Rules(ENGLISH).apply(logits, drawn)
    assert not np.isfinite(logits[:270]).any()
    logits = np.zeros(SIZE, np.float32)
    logits[ord("a")] = 7.6
    Rules(ENGLISH).apply(logits, drawn)
    assert np.isfinite(logits[ord("a")])


@pytest.mark.parametrize("token", [257, 258, 259, 260, 261, 262, 263, 264])
def test_no_control_token_but_the_end_is_written(token: int) -> None:
    logits = np.zeros(SIZE, np.float32)
    Rules(MANY).apply(logits, said(0.0, "a"))
    assert logits[token] == -np.inf


def test_without_timestamps_there_are_none() -> None:
    assert allowed((), timestamps=False) == TEXT - {ord(" ")}
    assert allowed(said("a"), timestamps=False) == TEXT | {256}
