"""Logits to token ids, vectorised over rows.

Steps, in order, each a no-op for the rows that do not need it: logit bias, repetition penalty,
presence and frequency penalties, a ban on end-of-sequence tokens before min_tokens; then either the
greatest logit, or temperature, top-k, top-p, min-p and a draw from what is left. A row's result
depends on that row and its generator alone, never on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_MIN_CANDIDATES = 64
_NUCLEUS_CANDIDATES = 256
"""First guess at how many tokens a nucleus holds; a larger one is found by a full sort."""
_BLOCK = 64
"""Width of the blocks whose maxima bound the k-th greatest logit from below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one row is sampled; every value is set and in range (see `nsedge.api.Sampling`)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def greedy(self) -> bool:
        """Whether the greatest logit is taken."""
        return self.temperature == 0.0 or self.top_k == 1

    @property
    def truncates(self) -> bool:
        """Whether some tokens may be cut off before the draw."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    @property
    def penalises(self) -> bool:
        """Whether tokens already seen are treated differently."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def candidates(self) -> int:
        """How many of the greatest logits to look at first; a power of two, above top_k."""
        if self.top_k == 0:
            return _NUCLEUS_CANDIDATES
        return max(_MIN_CANDIDATES, 1 << self.top_k.bit_length())


class SeenTokens:
    """The distinct tokens of a prompt and its output, with how often the output has each."""

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        ids = np.unique(np.fromiter(prompt_ids, np.int64))
        self._place = {int(token): i for i, token in enumerate(ids)}
        self._ids = ids
        self._counts: Floats = np.zeros(len(ids), np.float32)

    def add(self, token_id: int) -> None:
        """Count a token of the output."""
        place = self._place.get(token_id)
        if place is None:
            place = self._place[token_id] = len(self._place)
            if place == len(self._ids):
                self._ids = np.resize(self._ids, max(16, 2 * place))
                self._counts = np.concatenate(
                    [self._counts, np.zeros(len(self._ids) - place, np.float32)]
                )
            self._ids[place] = token_id
            self._counts[place] = 0.0
        self._counts[place] += 1.0

    @property
    def ids(self) -> Ids:
        """int64 [n], each once."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> Floats:
        """float32 [n]: how often the output has `ids[i]`; 0 for those of the prompt only."""
        return self._counts[: len(self._place)]


class SamplerRow:
    """What sampling needs to know of one sequence, and its generator (PCG64)."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int | None = None,
        logit_bias: dict[int, float] | None = None,
        prompt_ids: Iterable[int] = (),
    ) -> None:
        self.params = params
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.seen = SeenTokens(prompt_ids) if params.penalises else None
        self.ban_end = False
        """Whether the next token may not be an end of sequence."""
        bias = logit_bias or {}
        self.bias_ids: Ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.bias: Floats = np.fromiter(bias.values(), np.float32, len(bias))

    def accept(self, token_id: int) -> None:
        """Note the token that was chosen."""
        if self.seen is not None:
            self.seen.add(token_id)


class Sampler:
    """Chooses a token for every row of a batch."""

    def __init__(self, *, end_ids: Iterable[int]) -> None:
        self._end_ids = np.array(sorted(end_ids), np.int64)

    def sample(self, logits: Floats, rows: Many[SamplerRow]) -> list[int]:
        """One token id a row.

        Args:
            logits: float32 [B, V]; may be changed in place.
            rows: the B rows' states; their generators advance by one draw where they draw.
        """
        _add_bias(logits, rows)
        _penalise(logits, rows)
        for i, row in enumerate(rows):
            if row.ban_end:
                logits[i, self._end_ids] = -np.inf
        if all(row.params.greedy for row in rows):
            return [int(token) for token in logits.argmax(axis=1)]
        return _choose(logits, rows)


def _add_bias(logits: Floats, rows: Many[SamplerRow]) -> None:
    for i, row in enumerate(rows):
        if row.bias_ids.size:
            logits[i, row.bias_ids] += row.bias


def _penalise(logits: Floats, rows: Many[SamplerRow]) -> None:
    """Repetition (arXiv 1909.05858), then presence and frequency penalties (OpenAI's formula)."""
    hit = [(i, row.params, row.seen) for i, row in enumerate(rows) if row.seen is not None]
    if not hit:
        return
    sizes = [seen.ids.size for _, _, seen in hit]
    at = np.repeat([i for i, _, _ in hit], sizes), np.concatenate([seen.ids for _, _, seen in hit])
    count = np.concatenate([seen.counts for _, _, seen in hit])

    def spread(values: list[float]) -> Floats:
        return np.repeat(np.array(values, np.float32), sizes)

    repetition = spread([params.repetition_penalty for _, params, _ in hit])
    x = logits[at]
    x = np.where(x > 0, x / repetition, x * repetition)
    x -= spread([params.presence_penalty for _, params, _ in hit]) * (count > 0)
    x -= spread([params.frequency_penalty for _, params, _ in hit]) * count
    logits[at] = x


def _choose(logits: Floats, rows: Many[SamplerRow]) -> list[int]:
    """Greedy rows together, rows that truncate in groups of one candidate count, the rest."""
    chosen = [0] * len(rows)
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        params = row.params
        width = 0 if params.greedy else params.candidates if params.truncates else -1
        groups.setdefault(width, []).append(i)
    for width, members in groups.items():
        if width == 0:
            picks = [int(token) for token in logits[members].argmax(axis=1)]
        else:
            draws = [rows[i].generator.random() for i in members]
            params_of = [rows[i].params for i in members]
            if width < 0:
                picks = [
                    _draw_plain(logits[i], params.temperature, draw)
                    for i, params, draw in zip(members, params_of, draws, strict=True)
                ]
            else:
                picks = _draw_truncated(logits[members], params_of, draws, width)
        for i, pick in zip(members, picks, strict=True):
            chosen[i] = pick
    return chosen


def _draw_plain(logits: Floats, temperature: float, draw: float) -> int:
    """Inverse of the cumulative distribution over the whole vocabulary, in order of id."""
    weights = np.exp((logits - logits.max()) / np.float32(temperature))
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
    return min(place, len(logits) - 1)


def _draw_truncated(
    logits: Floats, params: Many[SamplingParams], draws: Many[float], width: int
) -> list[int]:
    """Draw from the best `width` candidates; rows that these do not settle, from a full sort."""
    size = logits.shape[1]
    picks = []
    for row, settings, draw in zip(logits, params, draws, strict=True):
        pick = None
        if width < size:
            pick = _draw_from(row, settings, draw, _greatest(row, width))
        if pick is None:
            pick = _draw_from(row, settings, draw, np.arange(size))
        if pick is None:
            raise FloatingPointError("the logits are not numbers")
        picks.append(pick)
    return picks


def _greatest(logits: Floats, count: int) -> Ids:
    """Ids of at least the `count` greatest logits, in order of id.

    The count-th greatest of the blocks' maxima cannot be above the count-th greatest logit, so
    everything at or above it is a superset, found without sorting the vocabulary.
    """
    blocks = len(logits) // _BLOCK
    if blocks < 2 * count:
        least = np.partition(logits, -count)[-count]
    else:
        maxima = logits[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        least = np.partition(maxima, -count)[-count]
    return np.flatnonzero(logits >= least)


def _draw_from(logits: Floats, params: SamplingParams, draw: float, ids: Ids) -> int | None:
    """Truncate and draw among `ids`, which hold the greatest logits; None where they may not do.

    They do where the tokens kept end above the least candidate, so that nothing outside could
    have been kept. Equal logits are ordered by id.
    """
    values = logits[ids]
    order = np.argsort(-values, kind="stable")
    values = values[order]
    whole = len(ids) == len(logits)
    weights = np.exp((values - values[0]).astype(np.float64) / params.temperature)
    kept = len(ids) if params.top_k == 0 else min(params.top_k, len(ids))
    cumulative = np.cumsum(weights[:kept])
    if params.top_p < 1.0:
        total = cumulative[-1] if params.top_k else _mass(logits, values[0], params)
        kept = int(np.searchsorted(cumulative, params.top_p * total, side="left")) + 1
        kept = min(kept, len(cumulative))
    if params.min_p > 0.0:
        kept = max(1, min(kept, int(np.count_nonzero(weights >= params.min_p))))
    if not whole and not values[kept - 1] > values[-1]:
        return None
    place = int(np.searchsorted(cumulative[:kept], draw * cumulative[kept - 1], side="right"))
    return int(ids[order[min(place, kept - 1)]])


def _mass(logits: Floats, greatest: np.float32, params: SamplingParams) -> float:
    """The sum of the whole vocabulary's weights, relative to the greatest logit."""
    weights = np.exp((logits - greatest) / np.float32(params.temperature))
    return float(weights.sum(dtype=np.float64))
