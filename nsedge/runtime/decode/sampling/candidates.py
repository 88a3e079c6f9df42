"""The likeliest tokens of rows, in falling order, from which filters drop some."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from nsedge.runtime.decode.sampling.logits import Flags, Floats, Ids, Logits, Reals


def weights_of(logits: Floats, temperature: float) -> Floats:
    """Unnormalised probabilities of a row [V], the greatest being 1."""
    weights = logits - logits.max()
    weights /= np.float32(temperature)
    return np.asarray(np.exp(weights, out=weights))


@dataclass(slots=True)
class Candidates:
    """R rows of up to W candidates, equal ones in order of id. What is dropped weighs nothing.

    `ids`, `values` and `weights` are [R, W]; `counts` [R] tells how many of a row are real, `whole`
    [R] whether no other token may come, and `outside` [R] how many others have not been dropped.
    `weights` are relative to the row's greatest, at its temperature [R].
    """

    logits: Logits
    rows: Many[int]
    temperatures: Reals
    ids: Ids
    values: Floats
    weights: Reals
    counts: Ids
    whole: Flags
    outside: Ids

    @classmethod
    def of(cls, logits: Logits, rows: Many[int], temperatures: Reals, width: int) -> Candidates:
        """At least the `width` greatest of each of the rows of `logits`."""
        found = logits.greatest(rows, width)
        order = np.argsort(-found.values, axis=1, kind="stable")
        values = np.take_along_axis(found.values, order, axis=1)
        weights = np.exp((values - values[:, :1]).astype(np.float64) / temperatures[:, None])
        return cls(
            logits=logits,
            rows=rows,
            temperatures=temperatures,
            ids=np.take_along_axis(found.ids, order, axis=1),
            values=values,
            weights=weights,
            counts=found.counts,
            whole=found.whole,
            outside=np.where(found.whole, 0, logits.vocabulary - found.counts),
        )

    def part(self, places: Many[int]) -> Candidates:
        """Those of some of the rows; all of them are these themselves."""
        if len(places) == len(self.rows):
            return self
        at = list(places)
        return Candidates(
            logits=self.logits,
            rows=[self.rows[place] for place in at],
            temperatures=self.temperatures[at],
            ids=self.ids[at],
            values=self.values[at],
            weights=self.weights[at],
            counts=self.counts[at],
            whole=self.whole[at],
            outside=self.outside[at],
        )

    def total(self, place: int) -> float:
        """The weight of the whole vocabulary of a row of which nothing was dropped."""
        row = self.logits.row(self.rows[place])
        return float(weights_of(row, float(self.temperatures[place])).sum(dtype=np.float64))

    def keep(self, places: Many[int], kept: Flags) -> None:
        """Drop all but the `kept` [len(places), W] of some of the rows. Whoever drops the least
        candidate drops what is outside, none of which is greater."""
        at = slice(None) if len(places) == len(self.rows) else list(places)
        self.weights[at] *= kept
        self.outside[at] *= kept[np.arange(len(places)), self.counts[at] - 1]

    def draw(self, draws: Reals) -> tuple[Ids, Flags]:
        """Invert the cumulative distribution of what is left: an id for each row, and whether it
        is certain [R], being drawn from candidates that have all that is left of the vocabulary."""
        rows = np.arange(len(draws))
        cumulative = np.cumsum(self.weights, axis=1)
        last = self.weights.shape[1] - 1 - (self.weights[:, ::-1] > 0).argmax(axis=1)
        target = draws * cumulative[:, -1]
        place = np.count_nonzero(cumulative <= target[:, None], axis=1)
        # Where the last one left is above the least candidate, nothing outside could be left.
        settled = self.values[rows, last] > self.values[rows, self.counts - 1]
        return self.ids[rows, np.minimum(place, last)], settled | self.whole
