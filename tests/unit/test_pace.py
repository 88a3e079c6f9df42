"""The budget between two decode steps, from numbers."""

from __future__ import annotations

import pytest

from nsedge.runtime.pace import FLOOR_TOKENS, QUIET_EVERY, Pace


def new(*, stretch: float = 2.0, chunk_tokens: int = 128) -> Pace:
    return Pace(stretch=stretch, chunk_tokens=chunk_tokens, floor_tokens=FLOOR_TOKENS)


def pace(decode_s: float, token_s: float, *, stretch: float = 2.0) -> Pace:
    """After a step of a few rows, and after a piece of a prompt."""
    made = new(stretch=stretch)
    made.decoded(decode_s, rows=3)
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
    assert new().budget(prompts=1, rows=1) == FLOOR_TOKENS
    assert new(chunk_tokens=4).budget(prompts=1, rows=1) == 4


def test_it_follows_what_steps_cost_and_no_single_hiccup() -> None:
    made = pace(0.02, 0.0005)
    made.decoded(2.0, rows=3)
    assert made.budget(prompts=1, rows=8) <= 2 * 40
    for _ in range(40):
        made.decoded(0.04, rows=3)
    assert made.budget(prompts=1, rows=8) in (76, 80)
    for _ in range(40):
        made.read(20, 20 * 0.001)
    assert made.budget(prompts=1, rows=8) in (36, 40)


def test_what_is_read_along_with_rows_is_charged_what_the_rows_do_not_cost() -> None:
    made = pace(0.02, 0.0005)
    for _ in range(40):
        made.read(10, 0.02 + 10 * 0.001, rows=3)
    assert made.budget(prompts=1, rows=3) in (16, 20)


def test_rows_that_cost_more_than_the_whole_step_leave_reading_a_price() -> None:
    made = pace(0.02, 0.0005)
    for _ in range(40):
        made.read(10, 0.001, rows=3)  # the rows became cheaper since
    assert made.budget(prompts=1, rows=3) == 128


def test_each_number_of_rows_is_measured_by_itself_now_and_then() -> None:
    made = new()
    assert made.wants_quiet(4)
    made.decoded(0.01, rows=4)
    assert (made.wants_quiet(4), made.wants_quiet(5)) == (False, True)
    for _ in range(QUIET_EVERY):
        assert not made.wants_quiet(4)
        made.read(10, 0.02, rows=4)
    assert made.wants_quiet(4)
    made.decoded(0.01, rows=4)
    assert not made.wants_quiet(4)


def test_a_number_of_rows_that_was_not_measured_counts_as_the_next_smaller_one() -> None:
    made = pace(0.02, 0.0005)
    made.decoded(0.08, rows=12)
    assert made.budget(prompts=1, rows=11) == 40
    assert made.budget(prompts=1, rows=13) == 128
    assert made.budget(prompts=1, rows=2) == FLOOR_TOKENS
