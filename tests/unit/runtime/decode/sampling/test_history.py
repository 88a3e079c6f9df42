"""What the tokens so far forbid or make less likely, by numbers and against plain loops."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from nsedge.api import Dry
from nsedge.runtime.decode.sampling.history import BadWords, Breakers, NoRepeat, Repeats
from nsedge.runtime.decode.sampling.penalties import SeenTokens
from tests.unit.runtime.decode.sampling import reference

A, B, C, D, LINE = range(5)
TEXTS = {A: "a", B: "b", C: "c", D: "d", LINE: "x\ny"}


def text_of(token: int) -> bytes:
    return TEXTS[token].encode()


def repeats(ids: list[int], **dry: object) -> dict[int, float]:
    wanted = Dry(**{"multiplier": 1.0, "base": 2.0, **dry})  # type: ignore[arg-type]
    ids_of, amounts = Repeats(wanted, ids, text_of).penalties()
    return dict(zip(ids_of.tolist(), amounts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("ids", "dry", "penalties"),
    [
        # a b stands there before, and c after it: 2 tokens, which are allowed, cost base ** 0.
        ([A, B, C, A, B], {}, {C: 1.0}),
        ([A, B, C, A, B], {"allowed_length": 3}, {}),
        ([A, B, C, A, B], {"allowed_length": 1}, {C: 2.0}),
        ([A, B, C, D, A, B, C], {}, {D: 2.0}),
        ([A, B, C, D, A, B, C], {"multiplier": 0.5, "base": 3.0}, {D: 1.5}),
        # The longest counts: c after a b, and d after b alone.
        ([A, B, C, B, D, A, B], {"allowed_length": 1}, {C: 2.0, D: 1.0}),
        ([D, A, B, C, A, B, C, D, A, B], {"allowed_length": 1}, {C: 4.0}),
        # A repetition may overlap itself.
        ([A, A, A, A], {"allowed_length": 1}, {A: 4.0}),
        # None reaches across a line end, nor is one made less likely.
        ([A, LINE, B, C, A, LINE, B], {"allowed_length": 1}, {C: 1.0}),
        ([A, B, LINE, A, B], {}, {}),
        ([A, B, LINE, A, B], {"sequence_breakers": ()}, {LINE: 1.0}),
        # Nor out of the window.
        ([A, B, C, A, B], {"penalty_last_n": 5}, {C: 1.0}),
        ([A, B, C, A, B], {"penalty_last_n": 4}, {}),
        ([A, B, C, A, B], {"penalty_last_n": 4, "allowed_length": 1}, {C: 1.0}),
        ([], {}, {}),
        ([A], {}, {}),
    ],
)
def test_repetitions_by_numbers(
    ids: list[int], dry: dict[str, object], penalties: dict[int, float]
) -> None:
    assert repeats(ids, **dry) == penalties


def test_repetitions_are_what_plain_loops_find() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        dry = Dry(
            multiplier=0.8,
            allowed_length=rng.choice([1, 2, 3]),
            penalty_last_n=rng.choice([-1, 1, 7, 30]),
            sequence_breakers=rng.choice([(), ("\n",), ("c",), ("ab", "ca"), ("\ny", "d")]),
        )
        ids = [rng.randrange(rng.choice([3, 5])) for _ in range(rng.randrange(60))]
        begin = rng.randrange(len(ids) + 1)
        state = Repeats(dry, ids[:begin], text_of)
        for token in ids[begin:]:
            state.add(token)
        found, amounts = state.penalties()
        wanted = reference.dry_penalties(dry, reference.Said(prompt=ids, texts=TEXTS))
        assert dict(zip(found.tolist(), amounts.tolist(), strict=True)) == pytest.approx(wanted)


def test_a_penalty_is_a_number_however_long_the_repetition() -> None:
    (penalty,) = repeats([A] * 400, base=100.0).values()
    assert penalty == pytest.approx(1e30)


def test_a_breaker_may_lie_across_tokens_and_begin_with_part_of_a_character() -> None:
    texts = [b"ab", b"c\xc3", b"\xa9", b"d"]
    breakers = Breakers(["bc", "\N{LATIN SMALL LETTER E WITH ACUTE}"], texts.__getitem__)
    assert [breakers.push(token) for token in (0, 1, 2, 3, 1)] == [False, True, True, False, False]
    assert not breakers.within(1)


@pytest.mark.parametrize(
    ("size", "ids", "banned"),
    [
        (3, [A, B, C, A, B], {C}),
        (3, [A, B, C, A, B, D, A, B], {C, D}),
        (3, [A, B], set()),
        (3, [A], set()),
        (2, [A, B, A], {B}),
        (1, [A, C], {A, C}),
        (4, [A, A, A, A], {A}),
        (5, [A, A, A, A], set()),
    ],
)
def test_no_n_gram_comes_twice(size: int, ids: list[int], banned: set[int]) -> None:
    for begin in range(len(ids) + 1):
        ban = NoRepeat(size, ids[:begin])
        for token in ids[begin:]:
            ban.add(token)
        assert set(ban.ids()) == banned


def test_the_last_token_of_a_bad_word_may_not_come_behind_the_others() -> None:
    ban = BadWords([(A,), (B, C), (B, C, D), (C, C)])
    seen = []
    for token in (B, C, D, C):
        ban.add(token)
        seen.append(set(ban.ids()))
    assert seen == [{A, C}, {A, D, C}, {A}, {A, C}]


def test_a_window_counts_its_own_tokens_alone() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        last_n = rng.choice([1, 2, 5, 20])
        prompt = [rng.randrange(6) for _ in range(rng.randrange(12))]
        output = [rng.randrange(6) for _ in range(rng.randrange(30))]
        seen = SeenTokens(prompt, last_n=last_n)
        for token in output:
            seen.add(token)
        both = [(token, False) for token in prompt] + [(token, True) for token in output]
        window = both[-last_n:]
        counts = Counter(token for token, mine in window if mine)
        assert dict(zip(seen.ids.tolist(), seen.counts.tolist(), strict=True)) == {
            token: counts[token] for token, _ in window
        }


def test_a_window_that_holds_all_is_none() -> None:
    wide, none = SeenTokens([1, 2], last_n=1000), SeenTokens([1, 2])
    for token in range(50):
        wide.add(token % 7)
        none.add(token % 7)
    np.testing.assert_array_equal(wide.ids, none.ids)
    np.testing.assert_array_equal(wide.counts, none.counts)
