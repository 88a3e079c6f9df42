"""Each step that drops candidates, by numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nsedge.api import Xtc
from nsedge.api.steps import DEFAULT_ORDER
from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.chain import STEPS, chain_of
from nsedge.runtime.decode.sampling.filters import (
    ExcludeTop,
    Filter,
    MinP,
    Step,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler

SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)


def candidates(rows: int = 1, *, width: int = 100, temperature: float = 1.0) -> Candidates:
    """Tokens of SHARES in falling order, their ids in another."""
    logits = np.array([[math.log(SHARES[(i * 2) % 5]) for i in range(5)]] * rows, np.float32)
    return Candidates.of(HostLogits(logits), range(rows), np.full(rows, temperature), width)


@pytest.mark.parametrize(
    ("step", "params", "kept"),
    [
        (TopK(), SamplingParams(top_k=1), 1),
        (TopK(), SamplingParams(top_k=3), 3),
        (TopK(), SamplingParams(top_k=50), 5),
        (TopP(), SamplingParams(top_p=0.01), 1),
        (TopP(), SamplingParams(top_p=0.39), 1),
        (TopP(), SamplingParams(top_p=0.41), 2),
        (TopP(), SamplingParams(top_p=0.84), 3),
        (TopP(), SamplingParams(top_p=0.9999), 5),
        (MinP(), SamplingParams(min_p=1.0), 1),
        (MinP(), SamplingParams(min_p=0.74), 2),
        (MinP(), SamplingParams(min_p=0.25), 3),
        (MinP(), SamplingParams(min_p=0.01), 5),
        # The standard deviation of the five logarithms is 0.7495.
        (TopNSigma(), SamplingParams(top_n_sigma=0.3), 1),
        (TopNSigma(), SamplingParams(top_n_sigma=0.5), 2),
        (TopNSigma(), SamplingParams(top_n_sigma=1.5), 3),
        (TopNSigma(), SamplingParams(top_n_sigma=3.0), 5),
        # At least so many of what there was.
        (TopP(), SamplingParams(top_p=0.0, min_keep=3), 3),
        (MinP(), SamplingParams(min_p=1.0, min_keep=2), 2),
        (MinP(), SamplingParams(min_p=0.25, min_keep=2), 3),
        (TopNSigma(), SamplingParams(top_n_sigma=0.3, min_keep=9), 5),
    ],
)
def test_by_numbers(step: Filter, params: SamplingParams, kept: int) -> None:
    best = candidates()
    assert step.needed(params)
    flags = step.keep(best, [SamplerRow(params)])
    assert flags.tolist() == [[place < kept for place in range(5)]]


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        # The entropy is 1.392 nats; the five are 0.476, 0.188, 0.505, 0.910 and 1.603 from it.
        ({"typical_p": 0.0}, (1,)),
        ({"typical_p": 0.29}, (1,)),
        ({"typical_p": 0.31}, (0, 1)),
        ({"typical_p": 0.69}, (0, 1)),
        ({"typical_p": 0.71}, (0, 1, 2)),
        ({"typical_p": 0.94}, (0, 1, 2, 3)),
        ({"typical_p": 0.96}, (0, 1, 2, 3, 4)),
        ({"typical_p": 0.1, "min_keep": 2}, (0, 1)),
    ],
)
def test_typical_tokens_by_numbers(params: dict[str, Any], kept: tuple[int, ...]) -> None:
    flags = TypicalP().keep(candidates(), [SamplerRow(SamplingParams(**params))])
    assert flags.tolist() == [[place in kept for place in range(5)]]


@pytest.mark.parametrize(
    ("threshold", "chance", "min_keep", "kept"),
    [
        (0.09, 0.69, 0, (3, 4)),
        (0.2, 0.0, 0, (1, 2, 3, 4)),
        (0.04, 0.0, 0, (4,)),
        (0.35, 0.0, 0, (0, 1, 2, 3, 4)),
        (0.9, 0.0, 0, (0, 1, 2, 3, 4)),
        (0.09, 0.7, 0, (0, 1, 2, 3, 4)),
        (0.09, 0.0, 2, (3, 4)),
        (0.09, 0.0, 3, (0, 1, 2, 3, 4)),
    ],
)
def test_top_choices_are_excluded_by_numbers(
    threshold: float, chance: float, min_keep: int, kept: tuple[int, ...]
) -> None:
    xtc = Xtc(probability=0.7, threshold=threshold)
    row = SamplerRow(SamplingParams(xtc=xtc, min_keep=min_keep))
    row.chance = chance
    flags = ExcludeTop().keep(candidates(), [row])
    assert flags.tolist() == [[place in kept for place in range(5)]]


def test_more_top_choices_than_are_seen_are_all_excluded_but_the_last() -> None:
    """A thousand tokens are all likely enough, the later the less; no more than 64 are seen at
    first."""
    logits = np.linspace(0.1, 0.0, 1000, dtype=np.float32)[None]
    xtc = Xtc(probability=1.0, threshold=0.0005)
    row = SamplerRow(SamplingParams(xtc=xtc), seed=1)
    row.draw()
    best = Candidates.of(HostLogits(logits), [0], np.array([1.0]), ExcludeTop().width(row.params))
    ExcludeTop().apply(best, [0], [row])
    assert best.unclear.tolist() == [True]
    for _ in range(5):
        (draw,) = Sampler(end_ids=[]).sample(HostLogits(logits.copy()), [row])
        assert draw is not None
        assert draw.id == 999


def test_what_is_typical_is_told_though_more_is_outside() -> None:
    """Of 1,000 tokens eight are seen: enough, or the row is unclear and looks at more."""
    shares = np.array([0.25, 0.2, 0.15, 0.1, 0.05, 0.03, 0.02, 0.01] + [0.19 / 992] * 992)
    logits = np.log(shares).astype(np.float32)[None]
    for typical_p, clear in ((0.3, True), (0.95, False)):
        best = Candidates.of(HostLogits(logits), [0], np.array([1.0]), 8)
        assert best.outside[0] > 0
        row = SamplerRow(SamplingParams(typical_p=typical_p))
        seen = TypicalP().keep(best, [row])[0, :8]
        whole = Candidates.of(HostLogits(logits), [0], np.array([1.0]), 1000)
        assert best.unclear.tolist() == [not clear]
        if clear:
            assert seen.tolist() == TypicalP().keep(whole, [row])[0, :8].tolist()


def test_a_step_that_has_to_know_all_is_unclear_where_more_may_be_dropped() -> None:
    logits = np.linspace(0, 1, 1000, dtype=np.float32)[None]
    best = Candidates.of(HostLogits(logits), [0], np.array([1.0]), 16)
    row = SamplerRow(SamplingParams(min_p=0.01, typical_p=0.5))
    MinP().apply(best, [0], [row])
    assert (best.unknown.tolist(), best.unclear.tolist()) == ([True], [False])
    TypicalP().apply(best, [0], [row])
    assert best.draw(np.array([0.5])).certain.tolist() == [False]


@pytest.mark.parametrize("step", STEPS.values())
def test_a_plain_row_needs_none(step: Step) -> None:
    assert not step.needed(SamplingParams())
    assert chain_of(DEFAULT_ORDER).width(SamplingParams()) == 0


@pytest.mark.parametrize(
    ("params", "width"),
    [
        (SamplingParams(top_k=1), 64),
        (SamplingParams(top_k=63), 64),
        (SamplingParams(top_k=64), 128),
        (SamplingParams(top_k=1000, top_p=0.5), 1024),
        (SamplingParams(top_p=0.5, min_p=0.1), 256),
        (SamplingParams(min_p=0.1), 256),
    ],
)
def test_the_first_step_says_how_many_candidates(params: SamplingParams, width: int) -> None:
    assert chain_of(DEFAULT_ORDER).width(params) == width


def test_candidates_are_in_falling_order_and_equal_ones_by_id() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]], np.float32)
    best = Candidates.of(HostLogits(logits), [0, 1], np.array([1.0, 2.0]), 4)
    assert best.ids.tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]
    np.testing.assert_allclose(best.weights[0], np.exp([0.0, 0.0, -1.0, -2.0]))


def test_weights_are_at_each_rows_own_temperature() -> None:
    logits = np.array([[0.0, -1.0]] * 2, np.float32)
    best = Candidates.of(HostLogits(logits), [0, 1], np.array([0.5, 2.0]), 2)
    np.testing.assert_allclose(best.weights, np.exp([[0.0, -2.0], [0.0, -0.5]]))


def test_sums_are_the_same_to_the_bit_however_wide_neighbours_make_the_array() -> None:
    numbers = np.random.default_rng(1).random((50, 300))
    wider = np.pad(numbers, ((0, 0), (0, 900)))
    np.testing.assert_array_equal(Candidates.sums(wider), Candidates.sums(numbers))


def test_what_comes_after_works_on_what_is_left() -> None:
    """0.4 and 0.3 are left of top-k: the first is 57 % of them, and enough for top-p 0.5."""
    best = candidates()
    row = SamplerRow(SamplingParams(top_k=2, top_p=0.5))
    best.keep([0], TopK().keep(best, [row]))
    assert TopP().keep(best, [row]).tolist() == [[True, False, False, False, False]]


def test_steps_may_be_of_some_of_the_rows() -> None:
    best = candidates(3)
    row = SamplerRow(SamplingParams(top_k=2))
    best.keep([1], TopK().keep(best.part([1]), [row]))
    assert np.count_nonzero(best.weights, axis=1).tolist() == [5, 2, 5]


def test_a_nucleus_that_the_bounds_do_not_tell_is_summed() -> None:
    """Of 1,000 tokens four are seen; how much the others weigh has to be summed."""
    shares = np.array([0.3, 0.2, 0.1, 0.05] + [0.35 / 996] * 996)
    logits = np.log(shares).astype(np.float32)[None]
    best = Candidates.of(HostLogits(logits), [0], np.array([1.0]), 4)
    assert best.counts[0] < 1000
    for top_p, kept in ((0.29, 1), (0.45, 2), (0.59, 3), (0.64, 4)):
        flags = TopP().keep(best, [SamplerRow(SamplingParams(top_p=top_p))])
        assert np.count_nonzero(flags) == kept


def test_a_draw_is_certain_where_nothing_outside_could_be_left() -> None:
    logits = np.arange(1000, dtype=np.float32)[None] / 100
    best = Candidates.of(HostLogits(logits), [0], np.array([1.0]), 16)
    assert best.draw(np.array([0.5])).certain.tolist() == [False]
    best.keep([0], TopK().keep(best, [SamplerRow(SamplingParams(top_k=3))]))
    drawn = best.draw(np.array([0.999]))
    assert (drawn.ids.tolist(), drawn.certain.tolist()) == ([997], [True])
