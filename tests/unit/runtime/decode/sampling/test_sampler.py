"""The sampler against numbers, a plain reference, and the distribution it should draw from."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.ranking import Draw
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from tests.unit.runtime.decode.sampling.made import made_logits
from tests.unit.runtime.decode.sampling.remote import RemoteLogits
from tests.unit.runtime.decode.sampling.settings import some_row

GREEDY = SamplingParams(temperature=0.0)
VOCAB = 1000


def logits_of(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def sample(logits: NDArray[np.float32], rows: list[SamplerRow]) -> list[Draw | None]:
    return Sampler(end_ids=[0]).sample(HostLogits(logits.copy()), rows)


def ids_of(draws: list[Draw | None]) -> list[int | None]:
    return [None if draw is None else draw.id for draw in draws]


def sample_one(logits: NDArray[np.float32], row: SamplerRow) -> int | None:
    return ids_of(sample(logits, [row]))[0]


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

    wanted = sample(logits, rows())
    logits[1] = np.resize(np.array(bad, np.float32), 200)
    assert sample(logits, rows()) == [wanted[0], None, wanted[2]]


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
    if not SamplerRow(params).width:
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


def test_the_same_tokens_come_as_ever() -> None:
    """Recorded when the sampler was one pass over everything; 315 tokens in 63 settings."""
    recorded = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
    for case in recorded:
        number, vocabulary = case["case"], case["vocabulary"]
        row = SamplerRow(
            SamplingParams(**case["params"]),
            seed=100 + number,
            prompt_ids=[(i * 13 + number) % vocabulary for i in range(40)],
            logit_bias={int(token): bias for token, bias in case["bias"].items()},
        )
        said: list[int] = []
        for step in range(5):
            row.ban_end = step < 2
            logits = made_logits(1000 * number + step, 1, vocabulary, case["spread"])
            (draw,) = Sampler(end_ids=[0, 3]).sample(HostLogits(logits), [row])
            assert draw is not None
            row.accept(draw.id)
            said.append(draw.id)
        assert said == case["tokens"], case


def some_rows(seed: int, count: int) -> list[SamplerRow]:
    """Rows of all kinds: every step needed by some, and by others not."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        row = some_row(rng, VOCAB, prompt=[rng.randrange(12) for _ in range(30)])
        row.accept(rng.randrange(12))
        if rng.random() < 0.2:
            words = [rng.getrandbits(32) & rng.getrandbits(32) for _ in range(-(-VOCAB // 32))]
            row.mask = np.array(words, np.uint32)
        rows.append(row)
    return rows


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), size=st.sampled_from([960, VOCAB]))
def test_where_the_logits_lie_changes_no_token(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((count, VOCAB)) * 3).astype(np.float32)
    logits[:, size:] = -np.inf
    logits[rng.random(logits.shape) < 0.2] = 1.0
    if rng.random() < 0.3:
        logits[0, 5] = np.nan
    sampler = Sampler(end_ids=[0])
    here = sampler.sample(HostLogits(logits.copy()), some_rows(seed, count))
    there = sampler.sample(RemoteLogits(logits), some_rows(seed, count))
    assert here == there


def test_no_more_comes_from_elsewhere_than_is_needed() -> None:
    logits = made_logits(1, 5, VOCAB, 3.0)

    def fetched(*params: SamplingParams, **row: Any) -> int:
        remote = RemoteLogits(logits[: len(params)])
        rows = [SamplerRow(one, seed=1, **row) for one in params]
        Sampler(end_ids=[0]).sample(remote, rows)
        return remote.fetched

    assert fetched(GREEDY, GREEDY) == 0
    assert fetched(SamplingParams(top_k=40), SamplingParams(top_k=5, top_p=0.9)) == 0
    assert fetched(GREEDY, SamplingParams(), GREEDY) == 1
    assert fetched(GREEDY, GREEDY, logit_bias={3: 1.0}) == 2
    assert fetched(GREEDY, logprobs=3) == 1


# Masks.


def only(*tokens: int) -> NDArray[np.uint32]:
    words = np.zeros(-(-VOCAB // 32), np.uint32)
    for token in tokens:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words


@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        SamplingParams(),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.9),
        SamplingParams(min_p=0.2, top_p=0.99, temperature=2.0),
        SamplingParams(temperature=0.0, repetition_penalty=1.2),
    ],
)
def test_only_what_the_mask_allows_comes(params: SamplingParams) -> None:
    allowed = {3, 500, 998, 999}
    logits = made_logits(3, 1, VOCAB, 4.0)
    row = SamplerRow(params, seed=1, prompt_ids=[3])
    row.mask = only(*allowed)
    assert {sample_one(logits, row) for _ in range(50)} <= allowed
    row.mask = only(998)
    assert sample_one(logits, row) == 998


def test_where_nothing_may_come_nothing_is_chosen() -> None:
    row, beside = SamplerRow(SamplingParams(top_k=5), seed=1), SamplerRow(GREEDY)
    row.mask = only()
    logits = made_logits(3, 2, VOCAB, 4.0)
    assert ids_of(sample(logits, [row, beside])) == [None, int(logits[1].argmax())]


# Log-probabilities.


@pytest.mark.parametrize(
    "params",
    [GREEDY, SamplingParams(), SamplingParams(top_k=3), SamplingParams(repetition_penalty=1.5)],
)
@pytest.mark.parametrize("count", [0, 1, 20, VOCAB + 5])
def test_log_probabilities_are_the_models_own(params: SamplingParams, count: int) -> None:
    logits = made_logits(7, 1, VOCAB, 3.0)
    exact = logits[0].astype(np.float64)
    exact -= exact.max() + np.log(np.exp(exact - exact.max()).sum())
    row = SamplerRow(params, seed=2, prompt_ids=range(200), logit_bias={5: 100.0}, logprobs=count)
    (draw,) = sample(logits, [row])
    assert draw is not None
    assert draw.logprob == pytest.approx(exact[draw.id], abs=1e-5)
    assert draw.rank == 1 + sum(logits[0] > logits[0, draw.id])
    order = sorted(range(VOCAB), key=lambda token: (-logits[0, token], token))[:count]
    assert [token for token, _ in draw.top] == order
    np.testing.assert_allclose([p for _, p in draw.top], exact[order], atol=1e-5)


def test_nothing_is_told_unless_asked_and_asking_changes_no_token() -> None:
    logits = made_logits(9, 2, VOCAB, 3.0)
    plain = [SamplerRow(SamplingParams(top_p=0.9), seed=seed) for seed in range(2)]
    asking = [SamplerRow(SamplingParams(top_p=0.9), seed=seed, logprobs=2) for seed in range(2)]
    told = sample(logits, asking)
    assert sample(logits, plain) == [Draw(draw.id) for draw in told if draw is not None]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), steps=st.integers(1, 8))
def test_a_row_writes_the_same_alone_and_in_any_company(seed: int, count: int, steps: int) -> None:
    """Whole texts: what steps remember, penalise and forbid goes on from token to token, while
    neighbours come and go."""
    rng, made = random.Random(seed), np.random.default_rng(seed)
    logits = (made.standard_normal((steps, count, VOCAB)) * 3).astype(np.float32)
    logits[..., :12] += 4.0
    alone = []
    for place, row in enumerate(some_rows(seed, count)):
        said = []
        for step in range(steps):
            (draw,) = sample(logits[step, place : place + 1], [row])
            said.append(draw)
            row.accept(0 if draw is None else draw.id)
        alone.append(said)
    together, rows = [[] for _ in range(count)], some_rows(seed, count)
    at = [0] * count
    while any(step < steps for step in at):
        left = [place for place in range(count) if at[place] < steps]
        some = sorted(rng.sample(left, rng.randrange(1, len(left) + 1)))
        rng.shuffle(some)
        batch = np.array([logits[at[place], place] for place in some])
        for place, draw in zip(some, sample(batch, [rows[place] for place in some]), strict=True):
            together[place].append(draw)
            rows[place].accept(0 if draw is None else draw.id)
            at[place] += 1
    assert together == alone


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
    sample(np.ones((2, 8), np.float32), [greedy, drawing])
    assert [("generator" in vars(row)) for row in (greedy, drawing)] == [False, True]
