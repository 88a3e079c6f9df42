"""Every step spelled out over the whole vocabulary, in Python's own floats and loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nsedge.api import Dry, SamplerStep
from nsedge.runtime.decode.sampling.params import SamplingParams

Left = dict[int, float]
"""The tokens that are left, and their logits."""


@dataclass(kw_only=True)
class Said:
    """What was said before, and what is remembered of it."""

    prompt: Sequence[int] = ()
    output: Sequence[int] = ()
    texts: Mapping[int, str] = field(default_factory=dict)
    bound: float = math.inf
    target: float = 0.0


def weights(left: Left) -> dict[int, float]:
    best = max(left.values())
    return {i: math.exp(x - best) for i, x in left.items()}


def shares(left: Left) -> dict[int, float]:
    weight = weights(left)
    total = math.fsum(weight.values())
    return {i: w / total for i, w in weight.items()}


def falling(left: Left) -> list[int]:
    return sorted(left, key=lambda i: (-left[i], i))


def only(left: Left, kept: Sequence[int]) -> Left:
    return {i: left[i] for i in kept}


def at_least(kept: list[int], order: list[int], params: SamplingParams) -> list[int]:
    return kept + [i for i in order[: params.min_keep] if i not in kept]


def until(order: list[int], share: Mapping[int, float], wanted: float) -> list[int]:
    reached, kept = 0.0, []
    for i in order:
        kept.append(i)
        reached += share[i]
        if reached >= wanted:
            break
    return kept


def temperature(left: Left, p: SamplingParams) -> Left:
    t = p.temperature
    if p.dynamic_temperature is not None and len(left) > 1:
        entropy = -math.fsum(s * math.log(s) for s in shares(left).values() if s > 0)
        low, high = max(0.0, t - p.dynamic_temperature.range), t + p.dynamic_temperature.range
        way = (entropy / math.log(len(left))) ** p.dynamic_temperature.exponent
        t = max(1e-6, low + (high - low) * way)
    return {i: x / t for i, x in left.items()}


def penalised(left: Left, p: SamplingParams, said: Said) -> Left:
    both = [(i, False) for i in said.prompt] + [(i, True) for i in said.output]
    window = both if p.penalty_last_n < 0 else both[max(0, len(both) - p.penalty_last_n) :]
    counts = Counter(i for i, mine in window if mine)
    changed = dict(left)
    for i in {i for i, _ in window} & left.keys():
        x = left[i]
        x = x / p.repetition_penalty if x > 0 else x * p.repetition_penalty
        x -= p.presence_penalty * (counts[i] > 0) + p.frequency_penalty * counts[i]
        changed[i] = x
    return changed


def dry_penalties(dry: Dry, said: Said) -> dict[int, float]:
    """By looking at every place, and back from there."""
    ids = [*said.prompt, *said.output]
    text = "".join(said.texts.get(i, "") for i in ids)
    ends = [0]
    for i in ids:
        ends.append(ends[-1] + len(said.texts.get(i, "")))
    broken = -1
    for n in range(len(ids)):
        for b in dry.sequence_breakers:
            if any(text[at - len(b) : at] == b for at in range(ends[n] + 1, ends[n + 1] + 1)
                   if at >= len(b)):  # fmt: skip
                broken = n
    start = 0 if dry.penalty_last_n < 0 else max(0, len(ids) - dry.penalty_last_n)
    limit = len(ids) - 1 - broken
    longest: dict[int, int] = {}
    for place in range(start, len(ids) - 1):
        length = 0
        while (
            length < limit
            and place - length >= start
            and ids[place - length] == ids[len(ids) - 1 - length]
        ):
            length += 1
        after = ids[place + 1]
        if length >= dry.allowed_length:
            longest[after] = max(length, longest.get(after, 0))
    return {
        i: min(1e30, dry.multiplier * dry.base ** (length - dry.allowed_length))
        for i, length in longest.items()
        if not any(b in said.texts.get(i, "") for b in dry.sequence_breakers)
    }


def dried(left: Left, p: SamplingParams, said: Said) -> Left:
    assert p.dry is not None
    less = dry_penalties(p.dry, said)
    return {i: x - less.get(i, 0.0) for i, x in left.items()}


def top_n_sigma(left: Left, p: SamplingParams) -> Left:
    mean = math.fsum(left.values()) / len(left)
    sigma = math.sqrt(math.fsum((x - mean) ** 2 for x in left.values()) / len(left))
    least = max(left.values()) - p.top_n_sigma * sigma
    return only(left, at_least([i for i, x in left.items() if x >= least], falling(left), p))


def typical(left: Left, p: SamplingParams) -> Left:
    share = shares(left)
    entropy = -math.fsum(s * math.log(s) for s in share.values() if s > 0)
    order = sorted(
        falling(left), key=lambda i: abs(-math.log(share[i]) - entropy) if share[i] else math.inf
    )
    kept = until(order, share, p.typical_p)
    return only(left, at_least(kept, order, p))


def top_p(left: Left, p: SamplingParams) -> Left:
    order = falling(left)
    return only(left, at_least(until(order, shares(left), p.top_p), order, p))


def min_p(left: Left, p: SamplingParams) -> Left:
    weight = weights(left)
    kept = [i for i in left if weight[i] >= p.min_p]
    return only(left, at_least(kept, falling(left), p))


def xtc(left: Left, p: SamplingParams, chance: float) -> Left:
    assert p.xtc is not None
    share, order = shares(left), falling(left)
    likely = [i for i in order if share[i] >= p.xtc.threshold]
    if chance >= p.xtc.probability or len(likely) < 2:
        return left
    kept = order[len(likely) - 1 :]
    return only(left, kept) if len(kept) >= p.min_keep else left


def surprising(left: Left, said: Said) -> Left:
    share, order = shares(left), falling(left)
    kept = [i for i in order if share[i] > 0 and -math.log2(share[i]) <= said.bound]
    return only(left, kept or order[:1])


def near(left: Left, said: Said) -> dict[int, float]:
    far = {i: abs(s - said.target) / 0.3 for i, s in shares(left).items()}
    logit = {i: 5.0 - 10.0 * d * d / (1.0 + d) for i, d in far.items()}
    return weights(logit)


def changed(step: SamplerStep, left: Left, p: SamplingParams, said: Said, chance: float) -> Left:
    """What a step leaves, where it is on."""
    on: dict[SamplerStep, tuple[bool, Callable[[], Left]]] = {
        SamplerStep.PENALTIES: (True, lambda: penalised(left, p, said)),
        SamplerStep.DRY: (p.dry is not None, lambda: dried(left, p, said)),
        SamplerStep.TEMPERATURE: (True, lambda: temperature(left, p)),
        SamplerStep.TOP_N_SIGMA: (p.top_n_sigma > 0, lambda: top_n_sigma(left, p)),
        SamplerStep.TOP_K: (p.top_k > 0, lambda: only(left, falling(left)[: p.top_k])),
        SamplerStep.TYPICAL_P: (p.typical_p < 1, lambda: typical(left, p)),
        SamplerStep.TOP_P: (p.top_p < 1, lambda: top_p(left, p)),
        SamplerStep.MIN_P: (p.min_p > 0, lambda: min_p(left, p)),
        SamplerStep.XTC: (p.xtc is not None, lambda: xtc(left, p, chance)),
        SamplerStep.ADAPTIVE_P: (False, dict),
    }
    needed, change = on[step]
    return change() if needed else left


def left_of(
    logits: Sequence[float], p: SamplingParams, said: Said, chance: float
) -> tuple[Left, dict[int, float]]:
    """What the steps leave, and the weights that it is drawn by."""
    left = {i: x for i, x in enumerate(logits) if x > -math.inf}
    for step in p.order:
        left = changed(step, left, p, said, chance)
    if p.mirostat is not None:
        left = surprising(left, said)
    return left, weights(left) if p.adaptive_p is None else near(left, said)


def draw(
    logits: Sequence[float],
    p: SamplingParams,
    said: Said,
    *,
    number: float,
    chance: float = 1.0,
    by_id: bool = False,
) -> tuple[int, float]:
    """The token that `number` draws, in falling order or in that of ids, and what a memory is told
    of it."""
    left, weight = left_of(logits, p, said, chance)
    target, reached = number * math.fsum(weight.values()), 0.0
    order = sorted(left) if by_id else falling(left)
    for i in order:
        reached += weight[i]
        if reached > target:
            return i, shares(left)[i]
    return order[-1], shares(left)[order[-1]]
