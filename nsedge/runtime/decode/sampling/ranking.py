"""How likely tokens are, in nats, over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nsedge.runtime.decode.sampling.logits import Floats, HostLogits, Ids, Logits
from nsedge.runtime.decode.sampling.row import SamplerRow

Edit = Callable[[Logits, Many[SamplerRow]], object]
"""Changes logits [B, V] as their B rows ask."""


class Draw(NamedTuple):
    """A token, and how likely the model found it: before any step, as vLLM tells it; where a row
    has a rule, after the edits.

    `logprob` and `rank` are None unless asked for, and `top` empty: ids and log-probabilities of
    the likeliest tokens, in falling order, equal ones by id. Exact over the whole vocabulary, in
    nats. The rank is one more than the number of likelier tokens.
    """

    id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


class Likelihoods:
    """What a row's logits say, whatever becomes of them."""

    def __init__(self, logits: Logits, row: int, count: int) -> None:
        """`count`: how many of the likeliest tokens are told."""
        self._raw = logits.row(row).copy()
        greatest = self._raw.max()
        with np.errstate(invalid="ignore"):  # of a row that is no number nothing is told
            shares = np.exp(self._raw - greatest)
        self.is_number = bool(greatest < np.inf)
        self.usable = self.is_number and bool(greatest > -np.inf)
        self.log_total = float(greatest) + math.log(shares.sum(dtype=np.float64))
        self._likeliest: list[int] = []
        if count:
            found = logits.greatest([row], count)
            count = min(count, int(found.counts[0]))
            order = np.argsort(-found.values[0], kind="stable")[:count]
            self._likeliest = found.ids[0, order].tolist()

    def of(self, token: int) -> Draw:
        """A token, with all that is told of it."""
        top = tuple((one, self._logprob(one)) for one in self._likeliest)
        rank = 1 + int(np.count_nonzero(self._raw > self._raw[token]))
        return Draw(token, self._logprob(token), rank, top)

    def every(self) -> Floats:
        """The log-probability of each token, float32 [V]."""
        return self._raw - np.float32(self.log_total)

    def _logprob(self, token: int) -> float:
        return float(self._raw[token]) - self.log_total


def likelihood(logits: Logits, row: int, token: int, count: int) -> Draw | None:
    """How likely a row [V] found `token`, and the `count` likeliest; None where its logits are no
    numbers."""
    found = Likelihoods(logits, row, count)
    return found.of(token) if found.usable else None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The likeliest tokens of a row in falling order, those that may come: `ids` and `scores` [n].

    A score is the log-probability after all edits, which are made to log-probabilities, as
    transformers has it; where a row has a rule, the log-probability of what the edits leave.
    """

    ids: Ids
    scores: Floats
    told: Likelihoods

    def draw(self, place: int) -> Draw:
        """A token of it, with what is told."""
        return self.told.of(int(self.ids[place]))


def ranked(
    logits: Logits, rows: Many[SamplerRow], count: int, *, edit: Edit
) -> list[Ranking | None]:
    """The `count` likeliest tokens of each row [V]; None where its logits are no numbers, or
    nothing but zeros. A row of which no token may come is `barren`."""
    blank = logits.blank(range(len(rows)))
    if any(row.rule is not None for row in rows):
        logits = HostLogits(np.stack([logits.row(i) for i in range(len(rows))]))
        edit(logits, rows)
    told = [Likelihoods(logits, i, row.logprobs or 0) for i, row in enumerate(rows)]
    offsets = np.array([one.log_total for one in told], np.float32)
    if any(row.rule is None and row.is_ruled for row in rows):
        logits = HostLogits(np.stack([one.every() for one in told]))
        edit(logits, rows)
        offsets[:] = 0.0
    found = logits.greatest(range(len(rows)), min(count, logits.vocabulary))
    scores = found.values - offsets[:, None]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rankings: list[Ranking | None] = []
    for i, row in enumerate(rows):
        ids, values = found.ids[i, order[i]], scores[i, order[i]]
        may = values > -np.inf
        row.barren = i not in blank and row.is_ruled and told[i].is_number and not may.any()
        usable = told[i].usable or row.barren
        rankings.append(Ranking(ids[may], values[may], told[i]) if usable else None)
    for i in blank:
        rankings[i] = None
    return rankings
