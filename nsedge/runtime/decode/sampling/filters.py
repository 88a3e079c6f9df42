"""Steps that drop candidates, each of the rows that need it and no others."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence as Many
from typing import ClassVar

import numpy as np

from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.logits import Flags, Floats, Ids, Reals
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.view import Row

LEAST_WIDTH = 64
NUCLEUS_WIDTH = 256
"""First guess at how many tokens a nucleus holds; a larger one is found by a full sort."""
WHOLE = 2**31
"""As many candidates as there are tokens."""


class Step(ABC):
    """One step over candidates."""

    leaves_tail: ClassVar[bool] = False
    """Whether it never drops what is less likely than something that it keeps."""
    needs_order: ClassVar[bool] = True
    """Whether it asks which candidate is likelier than which."""

    @abstractmethod
    def needed(self, params: SamplingParams) -> bool:
        """Whether it could change anything."""

    @abstractmethod
    def width(self, params: SamplingParams) -> int:
        """How many candidates it should see, where no step before it has dropped any. Where it
        turns out to keep all that it saw, it is asked again with more. A step that may keep a
        candidate behind one that it drops, and cannot tell from the candidates which, asks for the
        whole vocabulary. 0: as many as the steps after it."""

    @abstractmethod
    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Change the candidates of some of the rows, all of which need it."""


class Filter(Step):
    """A step that drops candidates. It keeps the best one that is left, or another, always."""

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Drop what does not stay."""
        part = best.part(places)
        kept = self.keep(part, rows)
        if part is not best:
            best.unclear[list(places)] = part.unclear
        best.keep(places, kept)

    @abstractmethod
    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """Which candidates stay [R, W], of R rows that all need it; what was dropped before does
        not stay in any case."""


class TopK(Filter):
    """Keeps the k greatest."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether there is a k."""
        return params.top_k > 0

    def width(self, params: SamplingParams) -> int:
        """A power of two above k."""
        return max(LEAST_WIDTH, 1 << params.top_k.bit_length())

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """The first k that are left."""
        most = np.array([[row.params.top_k] for row in rows])
        if best.from_top:
            return np.asarray(np.arange(best.weights.shape[1]) < most)
        return best.ranks <= most


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

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """As many as it takes."""
        best.need_all()
        top_p = np.array([row.params.top_p for row in rows])
        cumulative = np.cumsum(best.weights, axis=1)
        low = cumulative[:, -1].copy()
        least = best.least(best.weights)

        def count(whole: Reals) -> Ids:
            reached = cumulative < (top_p * whole)[:, None]
            return np.asarray(np.count_nonzero(reached, axis=1) + 1)

        counts, most = count(low), count(low + best.outside * least)
        unclear = np.flatnonzero(counts != most)
        if unclear.size:
            low[unclear] = [best.total(int(row)) for row in unclear]
            counts = np.where(counts != most, count(low), counts)
        kept = np.arange(best.weights.shape[1]) < counts[:, None]
        return _at_least(kept, best, rows)


class MinP(Filter):
    """Keeps what is at least as likely as a share of the best candidate (arXiv 2407.01082)."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether there is such a share."""
        return params.min_p > 0.0

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """By weight."""
        least = np.array([row.params.min_p for row in rows]) * best.weights.max(axis=1)
        return _at_least(best.weights >= least[:, None], best, rows)


class TopNSigma(Filter):
    """Keeps the tokens whose logit is at most n standard deviations of all logits that are left
    below the greatest (arXiv 2411.07641). A temperature before it changes nothing."""

    def needed(self, params: SamplingParams) -> bool:
        """Whether there is an n."""
        return params.top_n_sigma > 0.0

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """By logit."""
        best.need_all()
        left = best.weights > 0
        greatest = np.where(left, best.values, -np.inf).max(axis=1)
        reach = np.array([row.params.top_n_sigma for row in rows])
        spread = [
            _deviation(best.left(row) if best.outside[row] else own[kept])
            for row, (own, kept) in enumerate(zip(best.values, left, strict=True))
        ]
        least = greatest - reach * np.array(spread)
        return _at_least(best.values >= least[:, None], best, rows)


class TypicalP(Filter):
    """Keeps the tokens whose surprise is nearest to what is expected of all that are left, the
    fewest that together reach a share (arXiv 2202.00666).

    They lie side by side in the falling order, so that a share of the candidates may tell which.
    """

    def needed(self, params: SamplingParams) -> bool:
        """Whether the share is less than all."""
        return params.typical_p < 1.0

    def width(self, params: SamplingParams) -> int:
        """A guess."""
        return NUCLEUS_WIDTH

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """By the distance of their logarithm from the mean one."""
        totals, means = self._moments(best)
        left = best.weights > 0
        logs = np.log(best.weights, where=left, out=np.full(left.shape, -np.inf))
        distances = np.abs(logs - means[:, None])
        order = np.argsort(distances, axis=1, kind="stable")
        reached = np.cumsum(np.take_along_axis(best.weights, order, axis=1), axis=1)
        share = np.array([row.params.typical_p for row in rows]) * totals
        counts = np.count_nonzero(reached < share[:, None], axis=1) + 1
        counts = np.maximum(counts, [row.params.min_keep for row in rows])
        kept = np.empty(left.shape, np.bool_)
        np.put_along_axis(kept, order, np.arange(left.shape[1]) < counts[:, None], axis=1)
        # What is outside is less likely than the least candidate: nearer, where that is too likely.
        near = best.least(kept).astype(np.bool_) | (best.least(logs) > means)
        best.unclear |= (best.outside > 0) & near
        return kept & left

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Drop what does not stay, the likeliest perhaps."""
        super().apply(best, places, rows)
        best.from_top = False

    @staticmethod
    def _moments(best: Candidates) -> tuple[Reals, Reals]:
        """The weight of all that is left of each row, and its mean logarithm [R]."""
        best.need_all()
        left = best.weights > 0
        logs = np.log(best.weights, where=left, out=np.zeros(left.shape))
        totals = best.sums(best.weights)
        means = best.sums(best.weights * logs) / totals
        for row in np.flatnonzero(best.outside).tolist():
            totals[row], means[row] = best.moments(row)
        return totals, means


class ExcludeTop(Filter):
    """XTC, exclude top choices: now and then, of the tokens that are likely enough, only the least
    likely stays (llama.cpp's pull request 9742; by p-e-w)."""

    leaves_tail = True

    def needed(self, params: SamplingParams) -> bool:
        """Whether it is on."""
        return params.xtc is not None

    def width(self, params: SamplingParams) -> int:
        """A guess at how many are likely enough."""
        return LEAST_WIDTH

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Drop what does not stay, which is nothing outside."""
        part = best.part(places)
        kept = self.keep(part, rows)
        if part is not best:
            best.unclear[list(places)] = part.unclear
        best.keep(places, kept, tail=True)
        best.from_top = False

    def keep(self, best: Candidates, rows: Many[Row]) -> Flags:
        """By their share of what is left, where chance has it so."""
        shares = best.weights / best.totals()[:, None]
        ranks = best.ranks
        dropped = np.zeros(len(rows), np.int64)
        for place, row in enumerate(rows):
            xtc = row.params.xtc
            if xtc is not None and row.chance < xtc.probability:
                likely = int(np.count_nonzero(shares[place] >= xtc.threshold)) - 1
                left = ranks[place, -1] + best.outside[place] - likely
                if likely > 0 and left >= row.params.min_keep:
                    dropped[place] = likely
                least = shares[place, best.counts[place] - 1]
                best.unclear[place] |= best.outside[place] > 0 and least >= xtc.threshold
        return ranks > dropped[:, None]


def _deviation(values: Floats) -> float:
    """The standard deviation of what may come."""
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
    off = finite - np.float32(finite.mean(dtype=np.float64))
    with np.errstate(over="ignore"):  # beyond all numbers: then nothing is far below
        off *= off
    return math.sqrt(off.mean(dtype=np.float64))


def _at_least(kept: Flags, best: Candidates, rows: Many[Row]) -> Flags:
    """`kept`, and the first `min_keep` that are left."""
    if any(row.params.min_keep for row in rows):
        return np.asarray(kept | (best.ranks <= [[row.params.min_keep] for row in rows]))
    return kept
