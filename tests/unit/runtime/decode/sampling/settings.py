"""Settings of all kinds."""

from __future__ import annotations

import dataclasses
import random

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, Xtc
from nsedge.api.steps import DEFAULT_ORDER
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules


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


def some_row(rng: random.Random, vocabulary: int, *, prompt: list[int]) -> SamplerRow:
    """A row in any settings and under any rules, which ids from 10 on always satisfy."""
    params = some_params(rng)
    if rng.random() < 0.2:
        params = SamplingParams(temperature=0.0, dry=params.dry, repetition_penalty=1.2)
    if rng.random() < 0.3:
        params = dataclasses.replace(params, no_repeat_ngram_size=rng.choice([2, 3]))
    allowed = tuple(sorted(rng.sample(range(vocabulary), vocabulary // 2)))
    rules = TokenRules(
        allowed=allowed if rng.random() < 0.2 else None,
        banned=(1, 2) if rng.random() < 0.3 else (),
        bad_words=((3,), (4, 5)) if rng.random() < 0.3 else (),
        ends=(6,) if rng.random() < 0.3 else (),
    )
    row = SamplerRow(
        params,
        seed=rng.getrandbits(60),
        logit_bias={rng.randrange(vocabulary): 3.0} if rng.random() < 0.3 else {},
        prompt_ids=prompt,
        logprobs=rng.choice([None, None, 0, 3]),
        rules=rules,
        vocabulary=vocabulary,
        text_of=lambda token: b"ab:"[token % 3 : token % 3 + 1],
    )
    row.ban_end = rng.random() < 0.2
    return row
