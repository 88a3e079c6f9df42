"""Whole texts in random settings and orders, against every step spelled out."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from tests.unit.runtime.decode.sampling import reference
from tests.unit.runtime.decode.sampling.settings import some_params

VOCAB = 1500
COMMON = 6
"""Tokens that prompts are of, and that are likelier than others, so that they come again."""


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
        if row.greedy:
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
                logits.tolist(),
                params,
                said,
                number=number,
                chance=twin.chance,
                by_id=not row.width or row.is_open or not row.is_ordered,
            )
            (draw,) = Sampler(end_ids=[0]).sample(HostLogits(logits[None]), [row])
            assert draw is not None
            assert draw.id == wanted, (seed, len(output), params)
            row.accept(draw.id)
            known.learn(share)
            output = [*output, draw.id]
