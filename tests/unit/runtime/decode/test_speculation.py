"""Guesses from what was there before, and when they are worth checking."""

from __future__ import annotations

import pytest

from nsedge.runtime.decode.speculation import (
    FIRST_RATE,
    MOST_DRAFTED,
    NGRAM,
    CheckCost,
    PromptLookup,
)

TEXT = tuple(range(100, 130))
FREE = 0.0
"""The cost at which every guess is worth checking."""


def test_what_followed_the_same_tokens_is_guessed() -> None:
    lookup = PromptLookup((*TEXT, 7, *TEXT[4 : 4 + NGRAM]))
    after = 4 + NGRAM
    assert lookup.draft(room=100, cost=FREE) == TEXT[after : after + MOST_DRAFTED]


def test_fewer_tokens_than_an_n_gram_are_no_place() -> None:
    lookup = PromptLookup((*TEXT, 7, *TEXT[4 : 4 + NGRAM - 1]))
    assert lookup.draft(room=100, cost=FREE) == ()


def test_the_newest_place_counts() -> None:
    lookup = PromptLookup((1, 2, 3, 50, 1, 2, 3, 60, 9, 1, 2, 3))
    assert lookup.draft(room=1, cost=FREE) == (60,)


def test_the_output_is_a_place_too() -> None:
    lookup = PromptLookup((9,))
    for token in (1, 2, 3, 4, 5, 1, 2, 3):
        lookup.accept(token)
    assert lookup.draft(room=3, cost=FREE) == (4, 5, 1)


def test_guesses_go_on_where_they_were_right_and_are_sought_anew_where_not() -> None:
    lookup = PromptLookup((*TEXT, 7, *TEXT[:NGRAM]))
    lookup.accept(TEXT[NGRAM])
    assert lookup.draft(room=2, cost=FREE) == TEXT[NGRAM + 1 : NGRAM + 3]
    lookup.accept(55)
    assert lookup.draft(room=2, cost=FREE) == ()
    for token in TEXT[10 : 10 + NGRAM]:
        lookup.accept(token)
    assert lookup.draft(room=2, cost=FREE) == TEXT[10 + NGRAM : 12 + NGRAM]


def test_a_draft_never_exceeds_its_room() -> None:
    lookup = PromptLookup((*TEXT, *TEXT[:NGRAM]))
    for room in range(4):
        assert len(lookup.draft(room=room, cost=FREE)) == room


def test_wrong_guesses_end_the_checks_and_right_ones_bring_them_back() -> None:
    """Whether a guess was right is seen without checking it."""
    cost = 0.35
    lookup = PromptLookup(TEXT)
    for begin in range(0, 25, 5):
        for token in (*TEXT[begin : begin + NGRAM], 7):
            lookup.accept(token)
    assert lookup.rate < FIRST_RATE
    for token in TEXT[:NGRAM]:
        lookup.accept(token)
    assert lookup.draft(room=100, cost=cost) == ()
    for token in TEXT[NGRAM:18]:
        lookup.accept(token)
    assert lookup.draft(room=100, cost=cost) == TEXT[18 : 18 + len(lookup.draft(room=8, cost=cost))]
    assert lookup.draft(room=100, cost=cost)


@pytest.mark.parametrize(("cost", "least", "most"), [(0.05, 8, 8), (0.35, 2, 8), (0.99, 0, 0)])
def test_dear_checks_are_short_or_not_made(cost: float, least: int, most: int) -> None:
    lookup = PromptLookup((*TEXT, *TEXT[:NGRAM]))
    for token in TEXT[NGRAM:20]:
        lookup.accept(token)
    assert least <= len(lookup.draft(room=100, cost=cost)) <= most


def test_the_cost_of_checks_is_learnt_in_decode_steps() -> None:
    cost = CheckCost()
    before = cost.share
    cost.checked(4, 1.0)
    assert cost.share == before, "nothing to compare with yet"
    for _ in range(50):
        cost.decoded(0.010)
        cost.checked(4, 0.018)
    assert cost.share == pytest.approx(0.2, rel=0.01)


def test_one_slow_check_is_not_the_new_normal() -> None:
    cost = CheckCost()
    cost.decoded(0.010)
    for _ in range(50):
        cost.checked(2, 0.014)
    cost.checked(2, 5.0)
    assert cost.share < 0.5
