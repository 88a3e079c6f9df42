"""Draws follow the distribution that each step leaves, by chi-square; the seeds are fixed."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.api.steps import DEFAULT_ORDER
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from tests.unit.runtime.decode.sampling import reference

VOCAB = 200
DRAWS = 8_000
PROMPT = (3, 4, 5, 6, 3, 4)
NEUTRAL = asdict(SamplingParams())
LAST = tuple(step for step in DEFAULT_ORDER if step is not SamplerStep.TEMPERATURE)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.6, top_k=12),
        SamplingParams(temperature=1.3, top_p=0.8),
        SamplingParams(temperature=1.0, min_p=0.1, top_k=30),
        SamplingParams(temperature=1.2, typical_p=0.6),
        SamplingParams(top_n_sigma=1.5),
        SamplingParams(dynamic_temperature=DynamicTemperature(range=0.8, exponent=1.5)),
        SamplingParams(xtc=Xtc(probability=0.4, threshold=0.05)),
        SamplingParams(mirostat=Mirostat(tau=2.0, eta=0.0)),
        SamplingParams(min_p=0.02, adaptive_p=AdaptiveP(target=0.15)),
        SamplingParams(dry=Dry(multiplier=2.0)),
        SamplingParams(temperature=2.0, top_k=20, order=(*LAST, SamplerStep.TEMPERATURE)),
        SamplingParams(
            temperature=0.7, top_p=0.9, repetition_penalty=1.5, order=tuple(reversed(LAST))
        ),
    ],
    ids=lambda params: str({k: v for k, v in asdict(params).items() if v != NEUTRAL[k]})[:60],
)
def test_draws_follow_the_distribution(params: SamplingParams) -> None:
    logits = np.random.default_rng(5).standard_normal(VOCAB).astype(np.float32) * 2
    said = reference.Said(prompt=PROMPT)
    if params.mirostat is not None:
        said.bound = 2 * params.mirostat.tau
    if params.adaptive_p is not None:
        said.target = params.adaptive_p.target
    expected = np.zeros(VOCAB)
    excluded = 0.0 if params.xtc is None else params.xtc.probability
    for chance, likely in ((0.0, excluded), (1.0, 1.0 - excluded)):
        _, weights = reference.left_of(logits.tolist(), params, said, chance)
        for token, weight in weights.items():
            expected[token] += likely * weight / math.fsum(weights.values())
    seen, sampler = np.zeros(VOCAB), Sampler(end_ids=[])
    for batch in range(DRAWS // 16):
        rows = [SamplerRow(params, seed=16 * batch + i, prompt_ids=PROMPT) for i in range(16)]
        for draw in sampler.sample(HostLogits(np.tile(logits, (16, 1))), rows):
            assert draw is not None
            seen[draw.id] += 1
    assert not seen[expected == 0].any()
    bins = expected * DRAWS >= 5
    rest = expected[~bins].sum() * DRAWS
    chi2 = ((seen[bins] - expected[bins] * DRAWS) ** 2 / (expected[bins] * DRAWS)).sum()
    if rest >= 5:
        chi2 += (seen[~bins].sum() - rest) ** 2 / rest
    freedom = bins.sum() - 1
    # Five standard deviations of chi-square above its mean.
    assert chi2 < freedom + 5 * math.sqrt(2 * max(freedom, 1))
