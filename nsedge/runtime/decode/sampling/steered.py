"""Steps that steer by what a row has drawn before, and what they remember of it."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many

import numpy as np

from nsedge.api import AdaptiveP, Mirostat
from nsedge.runtime.decode.sampling.candidates import LEAST_WEIGHT, Candidates
from nsedge.runtime.decode.sampling.filters import NUCLEUS_WIDTH, WHOLE, Filter, Step
from nsedge.runtime.decode.sampling.logits import Flags
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.view import Memory, Row

PEAK = 5.0
WIDTH = 0.3
SHARPNESS = 10.0
"""Of the curve that adaptive-p makes logits by: llama.cpp's."""


class Surprise(Memory):
    """How surprising the next token may be, in bits: Mirostat's mu."""

    def __init__(self, wanted: Mirostat) -> None:
        self._wanted = wanted
        self.bound = 2.0 * wanted.tau

    def learn(self, share: float) -> None:
        """Move by what the surprise was off the wanted one."""
        self.bound -= self._wanted.eta * (-math.log2(max(share, LEAST_WEIGHT)) - self._wanted.tau)


class BoundSurprise(Filter):
    """Mirostat, version 2: drops what is more surprising than a bound that moves so that the
    surprise of what is drawn stays near tau (arXiv 2007.14966)."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether it is on."""
        return params.mirostat is not None

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Drop what does not stay; a memory is told the shares of what stays."""
        super().apply(best, places, rows)
        for place in places:
            weights = best.weights[place]
            best.tell(place, weights / np.cumsum(weights)[-1])

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """By share; the likeliest always."""
        shares = best.weights / best.totals()[:, None]
        bounds = [row.memory.bound for row in rows if isinstance(row.memory, Surprise)]
        kept = shares >= np.exp2(-np.array(bounds))[:, None]
        return np.asarray(kept | (best.ranks == 1))


class Nearness(Memory):
    """The mean of the shares that were drawn, each counting `decay` times as much as the next."""

    def __init__(self, wanted: AdaptiveP) -> None:
        self._wanted = wanted
        self._weight = 1.0 / (1.0 - wanted.decay)
        self._sum = wanted.target * self._weight

    @property
    def target(self) -> float:
        """What to aim at, so that the mean comes to what is wanted."""
        return min(1.0, max(0.0, 2.0 * self._wanted.target - self._sum / self._weight))

    def learn(self, share: float) -> None:
        """A further share."""
        self._sum = share + self._wanted.decay * self._sum
        self._weight = 1.0 + self._wanted.decay * self._weight


class PreferNear(Step):
    """Adaptive-p: gives every token that is left a new logit by how near its share is to a target,
    which moves so that the mean share of what is drawn stays near the wanted one (llama.cpp's pull
    request 17927; by MrJackSpade).

    With d = |share - target| / 0.3, the logit is 5 - 10 d^2 / (1 + d).
    """

    needs_order = False

    def needed(self, params: SamplingParams) -> bool:
        """Whether it is on."""
        return params.adaptive_p is not None

    def width(self, params: SamplingParams) -> int:
        """Every token has a new logit."""
        return WHOLE

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Weigh what is left anew; a memory is told the shares of before."""
        part = best.part(places)
        part.close()
        left = part.weights > 0
        shares = part.weights / part.totals()[:, None]
        targets = [row.memory.target for row in rows if isinstance(row.memory, Nearness)]
        far = np.abs(shares - np.array(targets)[:, None]) / WIDTH
        logits = np.where(left, PEAK - SHARPNESS * far * far / (1.0 + far), -np.inf)
        part.weights[:] = np.exp(logits - logits.max(axis=1, keepdims=True))
        for place, own in zip(places, shares, strict=True):
            best.tell(place, own)
        best.put(places, part)


def memory_of(params: SamplingParams) -> Memory | None:
    """What a row is to remember, where it has such a step."""
    if params.mirostat is not None:
        return Surprise(params.mirostat)
    return None if params.adaptive_p is None else Nearness(params.adaptive_p)
