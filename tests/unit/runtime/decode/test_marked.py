"""A marked place of a prompt: its logits are kept and shown, wherever pieces end; rules of rows."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
import pytest

from nsedge.runtime.decode.plan import Chunk
from nsedge.runtime.decode.sampling.logits import Floats, HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.sequence import Limits, Sequence


def sequence(*, marked: int | None, told: int | None = None) -> Sequence:
    return Sequence(
        prompt_ids=tuple(range(10)),
        limits=Limits(max_tokens=1),
        submitted_s=0.0,
        marked=marked,
        prompt_told=told,
    )


@pytest.mark.parametrize(
    ("marked", "told", "start", "end", "kept"),
    [
        (None, None, 0, 10, range(9, 10)),
        (None, None, 0, 6, range(6, 6)),
        (7, None, 0, 10, range(7, 10)),
        (9, None, 0, 10, range(9, 10)),
        (7, None, 0, 6, range(6, 6)),
        (3, None, 0, 6, range(3, 6)),
        (3, None, 6, 10, range(9, 10)),
        (7, 5, 0, 10, range(5, 10)),
        (2, 5, 0, 10, range(2, 10)),
    ],
)
def test_places_from_the_marked_one_on_are_kept_in_its_piece(
    marked: int | None, told: int | None, start: int, end: int, kept: range
) -> None:
    chunk = Chunk(sequence(marked=marked, told=told), 0, start, end)
    assert chunk.kept == kept
    assert chunk.marks is (marked is not None and start <= marked < end)


class Odd:
    """Lets odd tokens come alone, and none twice."""

    def apply(self, logits: Floats, drawn: Many[int]) -> None:
        logits[::2] = -np.inf
        logits[list(drawn)] = -np.inf


def test_a_rule_holds_its_row_alone_and_is_told_what_was_drawn() -> None:
    sampler = Sampler(end_ids=())
    greedy = SamplingParams(temperature=0.0)
    held, free = SamplerRow(greedy, rule=Odd()), SamplerRow(greedy)
    for wanted in (3, 1, 5):
        logits = np.array([[0, 4, 9, 5, 8, 1]] * 2, np.float32)
        draws = sampler.sample(HostLogits(logits), [held, free])
        assert [draw.id for draw in draws if draw is not None] == [wanted, 2]
        held.accept(wanted)
        free.accept(2)
    assert sampler.sample(HostLogits(np.ones((1, 6), np.float32)), [held]) == [None]
    assert held.barren


def test_log_probabilities_are_of_what_a_rule_leaves() -> None:
    logits = np.array([[0, 1, 9, 2]] * 2, np.float32)
    greedy = SamplingParams(temperature=0.0)
    rows = [SamplerRow(greedy, rule=Odd(), logprobs=2), SamplerRow(greedy, logprobs=2)]
    ruled, plain = Sampler(end_ids=()).sample(HostLogits(logits), rows)
    assert ruled is not None
    assert plain is not None
    assert ruled.logprob == pytest.approx(-np.log(1 + np.exp(-1)), abs=1e-6)
    assert [token for token, _ in ruled.top] == [3, 1]
    assert plain.logprob == pytest.approx(-np.log(1 + np.exp(-7) + np.exp(-8) + np.exp(-9)))


def test_a_row_that_is_no_number_fails_under_a_rule_too() -> None:
    logits = np.full((1, 6), np.nan, np.float32)
    row = SamplerRow(SamplingParams(temperature=0.0), rule=Odd(), logprobs=0)
    assert Sampler(end_ids=()).sample(HostLogits(logits), [row]) == [None]
    assert not row.barren
