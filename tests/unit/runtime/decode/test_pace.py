"""The budget of a decode step, from numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.runtime.decode.pace import (
    FLOOR_TOKENS,
    LEAST_STRETCH,
    MIXED_FLOOR_TOKENS,
    MOST_HELD,
    QUIET_EVERY,
    Pace,
)


def new(*, stretch: float = 3.0, chunk_tokens: int = 128) -> Pace:
    return Pace(stretch=stretch, chunk_tokens=chunk_tokens, floor_tokens=FLOOR_TOKENS)


def pace(decode_s: float, token_s: float, *, stretch: float = 3.0) -> Pace:
    """After a step of a few rows, and after a piece of a prompt; how much steps vary is not known
    then, so that they aim at two thirds of the limit."""
    made = new(stretch=stretch)
    made.decoded(decode_s, rows=3)
    made.read(100, 100 * token_s)
    return made


def tokens(made: Pace, *, prompts: int = 1, rows: int = 3) -> int:
    return made.budget(prompts=prompts, rows=rows)


@pytest.mark.parametrize(
    ("decode_s", "token_s", "stretch", "tokens"),
    [
        (0.040, 0.0005, 3.0, 80),
        (0.040, 0.0005, 2.25, 40),
        (0.0202, 0.0005, 3.0, 40),  # whole tokens
        (0.003, 0.0005, 3.0, FLOOR_TOKENS),  # prompts always get on
        (0.040, 0.0005, 1.0, 20),  # even with no stretch at all
        (0.400, 0.0005, 3.0, 128),  # never more than a chunk
    ],
)
def test_reading_takes_as_long_as_a_step_may_be_stretched(
    decode_s: float, token_s: float, stretch: float, tokens: int
) -> None:
    assert pace(decode_s, token_s, stretch=stretch).budget(prompts=1, rows=8) == tokens


def test_where_more_wait_than_decode_they_get_more() -> None:
    # The limit is 1 + 2 times two quiet steps, of which a third is kept for what may come.
    assert tokens(pace(0.021, 0.0005), prompts=6) == 98
    assert tokens(pace(0.021, 0.0005), prompts=3, rows=6) == 42


def test_nothing_measured_is_a_cautious_start() -> None:
    assert new().budget(prompts=1, rows=1) == FLOOR_TOKENS
    assert new(chunk_tokens=4).budget(prompts=1, rows=1) == 4


def test_it_follows_what_steps_cost_and_no_single_hiccup() -> None:
    made = pace(0.02, 0.0005)
    made.decoded(0.03, rows=3)
    for _ in range(100):
        made.decoded(0.02, rows=3)
    assert 75 <= tokens(made) <= 80  # steady steps need nothing kept for what may come
    for _ in range(300):
        made.decoded(0.03, rows=3)
    assert 110 <= tokens(made) <= 120
    for _ in range(200):
        made.read(20, 20 * 0.001)
    assert 55 <= tokens(made) <= 60


def test_what_is_read_along_with_rows_is_charged_what_the_rows_do_not_cost() -> None:
    made = pace(0.02, 0.0005)
    for _ in range(200):
        made.read(10, 0.02 + 10 * 0.001, rows=3)
    assert 35 <= tokens(made) <= 41


def test_rows_that_cost_more_than_the_whole_step_leave_reading_a_price() -> None:
    made = pace(0.02, 0.0005)
    for _ in range(200):
        made.read(10, 0.001, rows=3)  # the rows became cheaper since
    assert tokens(made) == 128


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
    made = pace(0.021, 0.0005)
    made.decoded(0.08, rows=12)
    assert made.budget(prompts=1, rows=11) == 42
    assert made.budget(prompts=1, rows=13) == 128
    assert made.budget(prompts=1, rows=2) == FLOOR_TOKENS


def test_a_slow_moment_lets_steps_go_by_themselves() -> None:
    made = pace(0.02, 0.0005, stretch=1.0)
    for _ in range(100):
        made.decoded(0.02, rows=3)
    for _ in range(3):
        made.decoded(0.04, rows=3)
    assert tokens(made) == 0
    for _ in range(5):
        made.decoded(0.02, rows=3)
    assert tokens(made) > 0


def test_a_slow_moment_that_lasts_is_how_fast_the_machine_is() -> None:
    made = pace(0.02, 0.0005, stretch=1.0)
    for _ in range(100):
        made.decoded(0.02, rows=3)
    budgets = []
    for _ in range(400):
        budgets.append(tokens(made))
        if budgets[-1]:
            made.read(budgets[-1], 0.06 + budgets[-1] * 0.0015, rows=3)
        else:
            made.decoded(0.06, rows=3)
    longest = max(map(len, "".join("h" if not b else " " for b in budgets).split()))
    assert longest == MOST_HELD
    assert budgets[-50:].count(0) < 10


def noisy_steps(spread: float) -> list[float]:
    """What 6000 steps of 4 rows take, as a share of the quiet step, at a machine of so much noise
    (the standard deviation of the logarithm), each with what it is told to read."""
    random = np.random.default_rng(5)
    made = Pace(stretch=2.0, chunk_tokens=128, floor_tokens=MIXED_FLOOR_TOKENS)
    took: list[float] = []
    for number in range(6500):
        read = 0 if number < 300 or made.wants_quiet(4) else made.budget(prompts=1, rows=4)
        share = float(np.exp(random.normal(0.0, spread))) * (1.0 + 0.12 * read)
        if read:
            made.read(read, 0.01 * share, rows=4)
        else:
            made.decoded(0.01 * share, rows=4)
        took.append(share)
    return took[500:]


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_99_of_100_steps_stay_within_the_stretch_however_much_they_vary(spread: float) -> None:
    assert np.percentile(noisy_steps(spread), 99) <= 2.1


def test_a_steady_machine_reads_up_to_the_limit_and_a_restless_one_what_is_left() -> None:
    steady, restless = (np.median(noisy_steps(spread)) for spread in (0.02, 0.25))
    assert steady >= 1.75
    assert LEAST_STRETCH - 0.05 <= restless <= 1.4


def test_what_logits_cost_is_learnt_in_tokens() -> None:
    pace = Pace(stretch=2.0, chunk_tokens=128, floor_tokens=8)
    assert pace.told_tokens(64) == 32, "at first twice as much is assumed"
    for _ in range(200):
        pace.decoded(0.010, rows=2)
        pace.read(10, 0.020, rows=2)
        pace.told(10, 0.050, rows=2)
    assert 14 <= pace.told_tokens(64) <= 18
    assert pace.told_tokens(1) == 1
    for _ in range(400):
        pace.told(10, 0.010, rows=2)
    assert pace.told_tokens(64) == 64, "no more than others"
