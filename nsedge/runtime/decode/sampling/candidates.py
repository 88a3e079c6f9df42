"""The likeliest tokens of rows, in falling order, from which filters drop some."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nsedge.runtime.decode.sampling.logits import BLOCK, Flags, Floats, Ids, Logits, Reals

LEAST_WEIGHT = 5e-324
"""Of a token that was not dropped: above 0."""
NO_WEIGHT = np.float32(-110.0)
"""A logarithm whose exponential is 0 in float32."""


def weights_of(logits: Floats, temperature: float, *, room: Floats | None = None) -> Floats:
    """Unnormalised probabilities of a row [V], the greatest being 1; in `room` [V], if given."""
    weights: Floats = np.subtract(logits, logits.max(), out=room)
    if temperature != 1.0:
        weights /= np.float32(temperature)
    return np.asarray(np.exp(weights, out=weights))


def _weights(logs: Reals) -> Reals:
    """The exponentials; what may come weighs something, however little."""
    weights = np.exp(logs)
    if not weights[:, -1].all():
        weights[(weights == 0.0) & (logs > -np.inf)] = LEAST_WEIGHT
    return weights


def block_sums(weights: Floats) -> Floats:
    """The sums of every BLOCK weights [V] that follow each other, in float32."""
    whole = len(weights) // BLOCK * BLOCK
    sums: Floats = np.einsum("ij->i", weights[:whole].reshape(-1, BLOCK))
    return sums if whole == len(weights) else np.append(sums, weights[whole:].sum())


def total_of(weights: Floats) -> float:
    """The sum of weights [V]: of blocks in float32, then of those in float64."""
    return float(block_sums(weights).sum(dtype=np.float64))


def moments(logs: Floats) -> tuple[float, float]:
    """The sum of the weights whose logarithms are `logs` [V], and their mean logarithm; `logs` are
    changed."""
    if logs.min() < NO_WEIGHT:
        np.maximum(logs, NO_WEIGHT, out=logs)
    weights = np.exp(logs)
    logs *= weights
    total = total_of(weights)
    return total, total_of(logs) / total


class Drawn(NamedTuple):
    """Of each row [R]: the token, where it stands among the candidates, and whether it is certain,
    being drawn from candidates that have all that is left of the vocabulary."""

    ids: Ids
    places: Ids
    certain: Flags


@dataclass(slots=True)
class Candidates:
    """R rows of up to W candidates, equal ones in order of id. What is dropped weighs nothing.

    `ids`, `values` and `weights` are [R, W]; `counts` [R] tells how many of a row are real, `whole`
    [R] whether no other token may come, and `outside` [R] how many others have not been dropped.
    `weights` are relative to the row's base [R], at its temperature [R]. `unknown` [R] tells of the
    others that some of them may be dropped yet, and `unclear` [R] that a step had to know.
    """

    logits: Logits
    rows: Many[int]
    temperatures: Reals
    ids: Ids
    values: Floats
    bases: Floats
    weights: Reals
    counts: Ids
    whole: Flags
    outside: Ids
    unknown: Flags
    unclear: Flags
    from_top: bool = True
    """Whether what is left of each row are its likeliest ones."""
    told: dict[int, Reals] = field(default_factory=dict)
    """Of a place, what its row's memory is told of the candidate that is drawn [W]."""

    @classmethod
    def of(
        cls,
        logits: Logits,
        rows: Many[int],
        temperatures: Reals,
        width: int,
        *,
        ordered: bool = True,
    ) -> Candidates:
        """At least the `width` greatest of each of the rows of `logits`; in order of id where they
        need not be `ordered`."""
        found = logits.greatest(rows, width)
        ids, values = found.ids, found.values
        if ordered:
            order = np.argsort(-values, axis=1, kind="stable")
            ids = np.take_along_axis(ids, order, axis=1)
            values = np.take_along_axis(values, order, axis=1)
        bases = values[:, :1] if ordered else values.max(axis=1, keepdims=True)
        weights = _weights((values - bases).astype(np.float64) / temperatures[:, None])
        return cls(
            logits=logits,
            rows=rows,
            temperatures=temperatures,
            ids=ids,
            values=values,
            bases=bases[:, 0],
            weights=weights,
            counts=found.counts,
            whole=found.whole,
            outside=np.where(found.whole, 0, logits.vocabulary - found.counts),
            unknown=np.zeros(len(rows), np.bool_),
            unclear=np.zeros(len(rows), np.bool_),
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
            bases=self.bases[at],
            weights=self.weights[at],
            counts=self.counts[at],
            whole=self.whole[at],
            outside=self.outside[at],
            unknown=self.unknown[at],
            unclear=self.unclear[at],
            from_top=self.from_top,
        )

    def put(self, places: Many[int], part: Candidates, *, moved: bool = False) -> None:
        """Take over what was changed of a `part`: how it is weighed, and where it was `moved`, the
        candidates themselves."""
        if part is self:
            return
        at = list(places)
        self.temperatures[at], self.bases[at] = part.temperatures, part.bases
        self.weights[at], self.unclear[at] = part.weights, part.unclear
        if moved:
            self.ids[at], self.values[at] = part.ids, part.values
            self.outside[at] = part.outside

    @property
    def ranks(self) -> Ids:
        """How many of a row's candidates are left up to each one, itself among them [R, W]."""
        return np.cumsum(self.weights > 0, axis=1)

    def least(self, of: Reals | Floats | Flags) -> Reals:
        """What `of` [R, W] has of the least candidate of each row [R]."""
        return np.asarray(of[np.arange(len(self.rows)), self.counts - 1])

    def left(self, place: int) -> Floats:
        """The logits of a row [V], whatever was dropped being -inf; not to be changed."""
        row = self.logits.row(self.rows[place])
        dropped = self.ids[place, : self.counts[place]][
            self.weights[place, : self.counts[place]] == 0
        ]
        if dropped.size:
            row = row.copy()
            row[dropped] = -np.inf
        return row

    def total(self, place: int) -> float:
        """The weight of all that is left of the vocabulary, of a row of which nothing outside was
        dropped."""
        logs = self._logs(place)
        return total_of(np.exp(logs, out=logs))

    def moments(self, place: int) -> tuple[float, float]:
        """The same, and the mean logarithm of the weights."""
        return moments(self._logs(place))

    def _logs(self, place: int) -> Floats:
        """The logarithms of the weights of all that is left of the vocabulary [V]."""
        logs: Floats = self.left(place) - self.bases[place]
        if self.temperatures[place] != 1.0:
            logs /= np.float32(self.temperatures[place])
        return logs

    def totals(self) -> Reals:
        """The weight of all that is left of each row [R]. Where it cannot be known from these
        candidates, the row is unclear from now on."""
        self.need_all()
        sums = self.sums(self.weights)
        for place in np.flatnonzero(self.outside):
            sums[place] = self.total(int(place))
        return sums

    @staticmethod
    def sums(numbers: Reals) -> Reals:
        """Of each row [R], in one order, however many candidates its neighbours have."""
        return np.cumsum(numbers, axis=1)[:, -1]

    def need_all(self) -> None:
        """The step that comes has to know of all that is left."""
        self.unclear |= self.unknown & (self.outside > 0)

    def close(self) -> None:
        """The step that comes has to have all that is left before it: rows of which something is
        outside are unclear, and go on without that."""
        self.unclear |= self.outside > 0
        self.outside[:] = 0

    def keep(self, places: Many[int], kept: Flags, *, tail: bool = False) -> None:
        """Drop all but the `kept` [len(places), W] of some of the rows. Whoever drops the least
        candidate drops what is outside, none of which is greater; whoever keeps it leaves open what
        becomes of that, unless the `tail` is sure to stay."""
        at = slice(None) if len(places) == len(self.rows) else list(places)
        self.weights[at] *= kept
        if not tail:
            self.outside[at] *= kept[np.arange(len(places)), self.counts[at] - 1]
            self.unknown[at] |= self.outside[at] > 0

    def cool(self, temperatures: Reals) -> None:
        """Divide by `temperatures` [R] what these candidates stand for."""
        self.temperatures *= temperatures
        self.weigh(self.weights > 0)

    def weigh(self, left: Flags) -> None:
        """Weigh what is `left` [R, W] by its value, the greatest of it as 1."""
        self.bases = np.where(left, self.values, np.float32(-np.inf)).max(axis=1)
        exponents = np.minimum((self.values - self.bases[:, None]).astype(np.float64), 0.0)
        self.weights[:] = _weights(exponents / self.temperatures[:, None]) * left

    def fold(self) -> None:
        """Make the temperature part of the values; what was dropped has -inf."""
        most = np.finfo(np.float32).max
        values = np.clip(self.values / self.temperatures[:, None], -most, most)
        self.values = np.where(self.weights > 0, values, -np.inf).astype(np.float32)
        self.temperatures = np.ones(len(self.rows))

    def sort(self) -> None:
        """Bring into falling order what was given new values, those that are left first."""
        ids = np.where(self.weights > 0, self.ids, self.logits.vocabulary)
        order = np.lexsort((ids, -self.values), axis=1)
        self.ids = np.take_along_axis(self.ids, order, axis=1)
        self.values = np.take_along_axis(self.values, order, axis=1)
        self.weights = np.take_along_axis(self.weights, order, axis=1)
        self.weigh((self.weights > 0) & (self.values > -np.inf))

    def tell(self, place: int, shares: Reals) -> None:
        """Have a row's memory told of the candidate that is drawn what `shares` [W] has of it."""
        self.told[place] = shares

    def draw(self, draws: Reals) -> Drawn:
        """Invert the cumulative distribution of what is left of each row."""
        rows = np.arange(len(draws))
        cumulative = np.cumsum(self.weights, axis=1)
        last = self.weights.shape[1] - 1 - (self.weights[:, ::-1] > 0).argmax(axis=1)
        target = draws * cumulative[:, -1]
        place = np.count_nonzero(cumulative <= target[:, None], axis=1)
        place = np.minimum(place, last)
        # Where the last one left is above the least candidate, nothing outside could be left.
        settled = self.values[rows, last] > self.least(self.values)
        return Drawn(self.ids[rows, place], place, (settled | self.whole) & ~self.unclear)
