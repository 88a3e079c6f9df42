"""Steps that drop candidates, each of the rows that need it and no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np

from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.logits import Flags, Ids, Reals
from nsedge.runtime.decode.sampling.params import SamplingParams

LEAST_WIDTH = 64
NUCLEUS_WIDTH = 256
"""First guess at how many tokens a nucleus holds; a larger one is found by a full sort."""


class Drawing(Protocol):
    """A row that draws, as filters see it."""

    @property
    def params(self) -> SamplingParams:
        """How it is sampled."""

    @property
    def generator(self) -> np.random.Generator:
        """Its own, for a step that leaves something to chance."""


class Filter(ABC):
    """One step. It keeps the best candidate always."""

    @abstractmethod
    def needed(self, params: SamplingParams) -> bool:
        """Whether it could drop anything."""

    @abstractmethod
    def width(self, params: SamplingParams) -> int:
        """How many candidates it should see, where no step before it has dropped any. Where it
        turns out to keep all that it saw, it is asked again with more. A step that may keep a
        candidate behind one that it drops asks for the whole vocabulary."""

    @abstractmethod
    def keep(self, best: Candidates, rows: Many[Drawing]) -> Flags:
        """Which candidates stay [R, W], of R rows that all need it."""


class TopK(Filter):
    """Keeps the k greatest."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether there is a k."""
        return params.top_k > 0

    def width(self, params: SamplingParams) -> int:
        """A power of two above k."""
        return max(LEAST_WIDTH, 1 << params.top_k.bit_length())

    def keep(self, best: Candidates, rows: Many[Drawing]) -> Flags:
        """The first k."""
        return _first(np.array([row.params.top_k for row in rows]), best)


class TopP(Filter):
    """Keeps the fewest candidates that together reach a share of what is left (arXiv 1904.09751).

    What is left lies between the candidates' sum and that plus the least one's weight for every
    token outside: where both bounds give the same count, the vocabulary is not summed.
    """

    def needed(self, params: SamplingParams) -> bool:
        """Whether the share is less than all."""
        return params.top_p < 1.0

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def keep(self, best: Candidates, rows: Many[Drawing]) -> Flags:
        """As many as it takes."""
        top_p = np.array([row.params.top_p for row in rows])
        cumulative = np.cumsum(best.weights, axis=1)
        low = cumulative[:, -1].copy()
        least = best.weights[np.arange(len(rows)), best.counts - 1]

        def count(whole: Reals) -> Ids:
            reached = cumulative < (top_p * whole)[:, None]
            return np.asarray(np.count_nonzero(reached, axis=1) + 1)

        counts, most = count(low), count(low + best.outside * least)
        unclear = np.flatnonzero(counts != most)
        if unclear.size:
            low[unclear] = [best.total(int(row)) for row in unclear]
            counts = np.where(counts != most, count(low), counts)
        return _first(counts, best)


class MinP(Filter):
    """Keeps what is at least as likely as a share of the best candidate."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether there is such a share."""
        return params.min_p > 0.0

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def keep(self, best: Candidates, rows: Many[Drawing]) -> Flags:
        """By weight: the best one's is 1."""
        return np.asarray(best.weights >= np.array([[row.params.min_p] for row in rows]))


FILTERS: tuple[Filter, ...] = (TopK(), TopP(), MinP())
"""In the order that they are applied in."""


def width_of(params: SamplingParams) -> int:
    """How many candidates to look at first; 0 where no filter needs any. It follows from a row's
    own parameters, so that its neighbours change nothing."""
    return next((step.width(params) for step in FILTERS if step.needed(params)), 0)


def _first(counts: Ids, best: Candidates) -> Flags:
    return np.asarray(np.arange(best.weights.shape[1]) < counts[:, None])
