"""The sampler against numbers, a plain reference, and the distribution it should draw from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nsedge.runtime.decode.sampler import Sampler, SamplerRow, SamplingParams, SeenTokens

GREEDY = SamplingParams(temperature=0.0)
VOCAB = 1000


def logits_of(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def sample_one(logits: NDArray[np.float32], row: SamplerRow) -> int | None:
    return Sampler(end_ids=[0]).sample(logits.copy(), [row])[0]


def reference(logits: NDArray[np.float32], p: SamplingParams, draw: float) -> int:
    """Every step spelled out over the sorted vocabulary, in Python's own floats."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    best = float(logits[order[0]])
    weight = {i: math.exp((float(logits[i]) - best) / p.temperature) for i in order}
    kept = order[: p.top_k] if p.top_k else order
    whole, reached, nucleus = sum(weight[i] for i in kept), 0.0, []
    for i in kept:
        nucleus.append(i)
        reached += weight[i]
        if reached >= p.top_p * whole:
            break
    kept = [i for i in (nucleus if p.top_p < 1 else kept) if weight[i] >= p.min_p]
    target, reached = draw * sum(weight[i] for i in kept), 0.0
    for i in kept:
        reached += weight[i]
        if reached > target:
            return i
    return kept[-1]


@pytest.mark.parametrize(
    ("logits", "bias", "expected"),
    [
        ((1.0, 3.0, 2.0), {}, 1),
        ((1.0, 3.0, 3.0), {}, 1),
        ((1.0, 3.0, 2.0), {2: 5.0}, 2),
        ((1.0, 3.0, 2.0), {1: -100.0, 2: -100.0}, 0),
    ],
)
def test_greedy_takes_the_greatest_after_bias(
    logits: tuple[float, ...], bias: dict[int, float], expected: int
) -> None:
    assert sample_one(logits_of(*logits), SamplerRow(GREEDY, logit_bias=bias)) == expected


@pytest.mark.parametrize(
    ("penalties", "prompt", "output", "expected"),
    [
        # Positive logits are divided, negative ones multiplied; the prompt counts too.
        ({"repetition_penalty": 2.0}, [0, 2, 3], [], [1.0, 2.0, -2.0, 0.25]),
        ({"repetition_penalty": 2.0}, [], [3], [2.0, 2.0, -1.0, 0.25]),
        # Subtracted once, for tokens of the output only.
        ({"presence_penalty": 1.5}, [0], [3, 3], [2.0, 2.0, -1.0, -1.0]),
        # Subtracted for each occurrence in the output.
        ({"frequency_penalty": 0.25}, [0], [3, 3], [2.0, 2.0, -1.0, 0.0]),
        # Repetition comes first.
        ({"repetition_penalty": 2.0, "frequency_penalty": 0.25}, [0], [3], [1.0, 2.0, -1.0, 0.0]),
    ],
)
def test_penalties_by_numbers(
    penalties: dict[str, float], prompt: list[int], output: list[int], expected: list[float]
) -> None:
    row = SamplerRow(SamplingParams(temperature=0.0, **penalties), prompt_ids=prompt)
    for token in output:
        row.accept(token)
    logits = logits_of(2.0, 2.0, -1.0, 0.5)
    Sampler(end_ids=[0]).sample(logits, [row])
    np.testing.assert_allclose(logits[0], expected)


def test_the_end_is_banned_while_it_must_not_come() -> None:
    row = SamplerRow(GREEDY)
    row.ban_end = True
    assert sample_one(logits_of(9.0, 1.0, 2.0), row) == 2


@pytest.mark.parametrize("bad", [(1.0, float("nan"), 2.0), (1.0, float("inf")), (0.0, 0.0)])
@pytest.mark.parametrize("params", [GREEDY, SamplingParams(), SamplingParams(top_k=5)])
def test_from_logits_that_are_no_numbers_nothing_is_chosen(
    params: SamplingParams, bad: tuple[float, ...]
) -> None:
    logits = np.random.default_rng(1).standard_normal((3, 200), np.float32)

    def rows() -> list[SamplerRow]:
        return [SamplerRow(params, seed=seed, logit_bias={7: 2.0}) for seed in range(3)]

    sampler = Sampler(end_ids=[0])
    wanted = sampler.sample(logits.copy(), rows())
    logits[1] = np.resize(np.array(bad, np.float32), 200)
    assert sampler.sample(logits, rows()) == [wanted[0], None, wanted[2]]


def test_seen_tokens_are_counted_once_each() -> None:
    seen = SeenTokens([5, 5, 7])
    for token in [7, 9, *range(100, 140), 9]:
        seen.add(token)
    counts = dict(zip(seen.ids.tolist(), seen.counts.tolist(), strict=True))
    assert counts == {5: 0.0, 7: 1.0, 9: 2.0, **dict.fromkeys(range(100, 140), 1.0)}


some_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.2, 0.7, 1.0, 2.5]),
    top_k=st.sampled_from([0, 2, 40, 64, 300, 5000]),
    top_p=st.sampled_from([0.0, 0.05, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.5]),
)


@settings(max_examples=150, deadline=None)
@given(params=some_params, seed=st.integers(0, 2**32), spread=st.sampled_from([0.1, 3.0, 20.0]))
def test_the_fast_path_draws_what_the_plain_one_draws(
    params: SamplingParams, seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(6000) * spread).astype(np.float32)
    logits[rng.integers(0, 6000, 500)] = logits[0]  # equal logits, wherever the cut may fall
    if not params.truncates:
        params = SamplingParams(temperature=params.temperature, top_k=5000)
    draw = SamplerRow(params, seed=seed).generator.random()
    assert sample_one(logits[None], SamplerRow(params, seed=seed)) == reference(
        logits, params, draw
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), temperature=st.sampled_from([0.01, 1.0, 10.0]))
def test_a_nucleus_of_nothing_is_the_likeliest_token(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).standard_normal((1, VOCAB)).astype(np.float32)
    logits[0, [7, 500]] = logits.max() + 1.0  # the first of equals
    row = SamplerRow(SamplingParams(temperature=temperature, top_p=0.0), seed=seed)
    assert sample_one(logits, row) == 7


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(some_params, st.booleans()), min_size=2, max_size=16),
    seed=st.integers(0, 2**32),
)
def test_a_row_draws_the_same_alone_and_among_others(
    rows: list[tuple[SamplingParams, bool]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((len(rows), VOCAB)) * 3).astype(np.float32)
    settled = [GREEDY if greedy else params for params, greedy in rows]

    def states() -> list[SamplerRow]:
        return [SamplerRow(params, seed=seed + i) for i, params in enumerate(settled)]

    together = Sampler(end_ids=[0]).sample(logits.copy(), states())
    alone = [sample_one(logits[i : i + 1], row) for i, row in enumerate(states())]
    assert together == alone


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.6, top_k=12),
        SamplingParams(temperature=1.3, top_p=0.8),
        SamplingParams(temperature=1.0, min_p=0.1, top_k=30),
    ],
)
def test_draws_follow_the_distribution(params: SamplingParams) -> None:
    """Chi-square of 8,000 draws against the softmax of what is kept; the seed is fixed."""
    logits = np.random.default_rng(5).standard_normal(200).astype(np.float32) * 2
    order = np.argsort(-logits, kind="stable")
    weights = np.exp((logits[order] - logits[order[0]]).astype(np.float64) / params.temperature)
    if params.top_k:
        weights[params.top_k :] = 0
    if params.top_p < 1:
        cumulative = np.cumsum(weights) / weights.sum()
        weights[np.searchsorted(cumulative, params.top_p) + 1 :] = 0
    weights[weights < params.min_p] = 0
    expected = np.zeros(200)
    expected[order] = weights / weights.sum()
    row = SamplerRow(params, seed=11)
    sampler, draws = Sampler(end_ids=[0]), 8_000
    seen = np.zeros(200)
    for _ in range(draws):
        seen[sampler.sample(logits[None].copy(), [row])[0]] += 1
    assert not seen[expected == 0].any()
    bins = expected * draws >= 5
    rest = expected[~bins].sum() * draws
    chi2 = ((seen[bins] - expected[bins] * draws) ** 2 / (expected[bins] * draws)).sum()
    if rest >= 5:
        chi2 += (seen[~bins].sum() - rest) ** 2 / rest
    freedom = bins.sum() - 1
    # Five standard deviations of chi-square above its mean.
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    logits = np.ones((1, VOCAB), np.float32)

    def text(seed: int | None) -> list[int | None]:
        row = SamplerRow(SamplingParams(), seed=seed)
        return [sample_one(logits, row) for _ in range(8)]

    assert text(3) == text(3)
    assert text(3) != text(4)
    assert text(None) != text(None)


def test_a_generator_is_made_for_rows_that_draw_only() -> None:
    greedy, drawing = SamplerRow(SamplingParams(temperature=0.0)), SamplerRow(SamplingParams())
    Sampler(end_ids=()).sample(np.ones((2, 8), np.float32), [greedy, drawing])
    assert [("generator" in vars(row)) for row in (greedy, drawing)] == [False, True]
