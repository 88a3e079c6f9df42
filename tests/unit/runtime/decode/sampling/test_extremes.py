"""Any settings within their bounds, over any logits: a token that may come, and nothing raised."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler

TINY = 5e-324
VOCAB = 700
SHARES = (0.0, TINY, 1e-30, 0.5, 1.0 - 2**-53, 1.0)
COUNTS = (0, 1, 2, 700, 2**31 - 1)
ABOVE = (TINY, 1e-30, 0.3, 10.0)


def extreme(rng: random.Random) -> SamplingParams:
    """Values at and near the bounds of each parameter, a few of them neutral."""
    pick = rng.choice
    temperature = pick((TINY, 1e-40, 1e-7, 0.5, 1.0, 10.0))
    if rng.random() < 0.15:
        mirostat = Mirostat(tau=pick((0.0, 5.0, 100.0)), eta=pick((0.0, 1.0)))
        return SamplingParams(temperature=temperature, mirostat=mirostat)
    dynamic = DynamicTemperature(range=pick(ABOVE), exponent=pick((0.0, 1.0, 100.0)))
    dry = Dry(
        multiplier=pick((TINY, 100.0)),
        base=pick((1.0, 100.0)),
        allowed_length=pick((1, 2**31 - 1)),
        penalty_last_n=pick((-1, 1, 2**31 - 1)),
        sequence_breakers=pick(((), ("a",))),
    )
    order = list(SamplerStep)
    rng.shuffle(order)
    return SamplingParams(
        temperature=temperature,
        dynamic_temperature=pick((None, dynamic)),
        top_k=pick(COUNTS),
        top_p=pick(SHARES),
        min_p=pick(SHARES),
        typical_p=pick(SHARES),
        top_n_sigma=pick((0.0, TINY, 1.0, 100.0)),
        xtc=pick((None, Xtc(probability=pick((0.5, 1.0)), threshold=pick(SHARES)))),
        min_keep=pick(COUNTS),
        repetition_penalty=pick((1.0, 0.01, 10.0)),
        presence_penalty=pick((0.0, -2.0, 2.0)),
        penalty_last_n=pick((-1, 0, 1, 2**31 - 1)),
        dry=pick((None, dry)),
        no_repeat_ngram_size=pick((0, 0, 1, 3, 2**31 - 1)),
        adaptive_p=pick((None, AdaptiveP(target=pick((0.0, 1.0)), decay=pick((0.0, 0.99))))),
        order=tuple(order[: rng.randrange(len(order) + 1)]),
    )


@pytest.mark.parametrize("batch", range(8))
def test_a_token_that_may_come_is_drawn(batch: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(60 * batch, 60 * batch + 60):
            check(seed)


def check(seed: int) -> None:
    rng, made = random.Random(seed), np.random.default_rng(seed)
    params, sampler = extreme(rng), Sampler(end_ids=[])
    prompt = [rng.randrange(4) for _ in range(20)]
    row = SamplerRow(params, seed=seed, prompt_ids=prompt, text_of=lambda token: b"ab"[token % 2 :])
    beside = SamplerRow(SamplingParams(top_k=5), seed=1)
    spread, finite = rng.choice((0.0, 1e-30, 3.0, 1e4, 1e30)), rng.choice((1, 2, 600, VOCAB))
    for _ in range(4):
        logits = (made.standard_normal((2, VOCAB)) * spread + 1.0).astype(np.float32)
        barred = made.permutation(VOCAB)[finite:]
        logits[0, barred] = -np.inf
        draw, other = sampler.sample(HostLogits(logits.copy()), [row, beside])
        assert other is not None
        if draw is None:
            assert params.no_repeat_ngram_size, (seed, params)
            return
        assert draw.id not in barred, (seed, params)
        row.accept(draw.id)
