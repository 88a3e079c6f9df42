"""The budget between two decode steps, from numbers."""

from __future__ import annotations

import pytest

from nsedge.runtime.pace import FLOOR_TOKENS, Pace


def pace(decode_s: float, token_s: float, *, stretch: float = 2.0) -> Pace:
    made = Pace(stretch=stretch, chunk_tokens=128)
    made.decoded(decode_s)
    made.read(100, 100 * token_s)
    return made


@pytest.mark.parametrize(
    ("decode_s", "token_s", "stretch", "tokens"),
    [
        (0.040, 0.0005, 2.0, 80),
        (0.040, 0.0005, 1.5, 40),
        (0.0205, 0.0005, 2.0, 40),  # whole grains
        (0.003, 0.0005, 2.0, FLOOR_TOKENS),  # prompts always get on
        (0.040, 0.0005, 1.0, FLOOR_TOKENS),
        (0.400, 0.0005, 2.0, 128),  # never more than a chunk
    ],
)
def test_reading_takes_as_long_as_a_step_may_be_stretched(
    decode_s: float, token_s: float, stretch: float, tokens: int
) -> None:
    assert pace(decode_s, token_s, stretch=stretch).budget(prompts=1, rows=8) == tokens


def test_where_more_wait_than_decode_they_get_more() -> None:
    assert pace(0.02, 0.0005).budget(prompts=6, rows=3) == 80
    assert pace(0.02, 0.0005).budget(prompts=3, rows=6) == 40


def test_nothing_measured_is_a_cautious_start() -> None:
    assert Pace(stretch=2.0, chunk_tokens=128).budget(prompts=1, rows=1) == FLOOR_TOKENS
    assert Pace(stretch=2.0, chunk_tokens=8).budget(prompts=1, rows=1) == 8


def test_it_follows_what_steps_cost_and_no_single_hiccup() -> None:
    made = pace(0.02, 0.0005)
    made.decoded(2.0)
    assert made.budget(prompts=1, rows=8) <= 2 * 40
    for _ in range(40):
        made.decoded(0.04)
    assert made.budget(prompts=1, rows=8) in (76, 80)
    for _ in range(40):
        made.read(20, 20 * 0.001)
    assert made.budget(prompts=1, rows=8) in (36, 40)
