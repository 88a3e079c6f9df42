"""Whole texts in random settings and orders, against every step spelled out."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, Xtc
from nsedge.api.steps import DEFAULT_ORDER
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from tests.unit.runtime.decode.sampling import reference

VOCAB = 1500
COMMON = 6
"""Tokens that prompts are of, and that are likelier than others, so that they come again."""


def some_params(rng: random.Random) -> SamplingParams:
    """Every step on now and then, in an order of its own as often as not."""

    def pick(value: float, neutral: float) -> float:
        return value if rng.random() < 0.3 else neutral

    steps = list(DEFAULT_ORDER)
    if rng.random() < 0.5:
        rng.shuffle(steps)
    temperature = rng.choice([0.3, 1.0, 1.0, 2.0])
    if rng.random() < 0.15:
        mirostat = Mirostat(tau=rng.choice([1.0, 3.0, 8.0]), eta=0.3)
        return SamplingParams(
            temperature=temperature, mirostat=mirostat, repetition_penalty=pick(1.3, 1.0)
        )
    dynamic = DynamicTemperature(range=0.5, exponent=rng.choice([1.0, 0.7]))
    dry = Dry(
        multiplier=0.8,
        allowed_length=rng.choice([1, 2]),
        penalty_last_n=rng.choice([-1, 15]),
    )
    return SamplingParams(
        temperature=temperature,
        dynamic_temperature=dynamic if rng.random() < 0.3 else None,
        top_k=int(pick(rng.choice([2, 40, 300]), 0)),
        top_p=pick(rng.choice([0.5, 0.9, 0.999]), 1.0),
        min_p=pick(rng.choice([0.02, 0.3]), 0.0),
        typical_p=pick(rng.choice([0.2, 0.5, 0.95]), 1.0),
        top_n_sigma=pick(rng.choice([0.5, 1.0, 3.0]), 0.0),
        xtc=Xtc(probability=0.7, threshold=rng.choice([0.01, 0.1])) if rng.random() < 0.3 else None,
        min_keep=int(pick(3, 0)),
        repetition_penalty=pick(1.3, 1.0),
        presence_penalty=pick(0.5, 0.0),
        frequency_penalty=pick(0.2, 0.0),
        penalty_last_n=rng.choice([-1, -1, 10]),
        dry=dry if rng.random() < 0.3 else None,
        adaptive_p=AdaptiveP(target=rng.choice([0.2, 0.6])) if rng.random() < 0.2 else None,
        order=tuple(steps),
    )


@dataclass
class Remembered:
    """What mirostat and adaptive-p know, by their formulas."""

    params: SamplingParams
    bound: float = math.inf
    total: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.params.mirostat is not None:
            self.bound = 2 * self.params.mirostat.tau
        if (near := self.params.adaptive_p) is not None:
            self.total, self.weight = near.target / (1 - near.decay), 1 / (1 - near.decay)

    @property
    def target(self) -> float:
        near = self.params.adaptive_p
        wanted = 0.0 if near is None else near.target
        return min(1.0, max(0.0, 2 * wanted - self.total / self.weight))

    def learn(self, share: float) -> None:
        if (held := self.params.mirostat) is not None:
            self.bound -= held.eta * (-math.log2(share) - held.tau)
        if (near := self.params.adaptive_p) is not None:
            self.total = share + near.decay * self.total
            self.weight = 1 + near.decay * self.weight


@pytest.mark.parametrize("batch", range(12))
def test_every_token_is_the_one_that_plain_steps_draw(batch: int) -> None:
    for seed in range(20 * batch, 20 * batch + 20):
        rng, made = random.Random(seed), np.random.default_rng(seed)
        params = some_params(rng)
        texts = {i: rng.choice(["a", "b", "c\n", ":", "d"]) for i in range(VOCAB)}
        prompt, output = [rng.randrange(COMMON) for _ in range(20)], []
        row = SamplerRow(
            params, seed=seed, prompt_ids=prompt, text_of=lambda i, texts=texts: texts[i].encode()
        )
        if not row.width:
            continue
        twin, known = SamplerRow(params, seed=seed), Remembered(params)
        spread = rng.choice([1.0, 3.0, 10.0])
        for _ in range(4):
            logits = (made.standard_normal(VOCAB) * spread).astype(np.float32)
            logits[:COMMON] += 2 * spread
            if rng.random() < 0.3:
                logits[made.integers(0, VOCAB, 50)] = -np.inf
            said = reference.Said(
                prompt=prompt, output=output, texts=texts, bound=known.bound, target=known.target
            )
            number = twin.draw()
            wanted, share = reference.draw(
                logits.tolist(), params, said, number=number, chance=twin.chance
            )
            (draw,) = Sampler(end_ids=[0]).sample(HostLogits(logits[None]), [row])
            assert draw is not None
            assert draw.id == wanted, (seed, len(output), params)
            row.accept(draw.id)
            known.learn(share)
            output = [*output, draw.id]
