"""Logits to token ids, vectorised over rows.

Steps, in order, each a no-op for the rows that do not need it: logit bias, repetition penalty,
presence and frequency penalties, a ban on end-of-sequence tokens before min_tokens; then either the
greatest logit, or temperature, top-k, top-p, min-p and a draw from what is left. A row's result
depends on that row and its generator alone, never on the rows beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]
Ids = NDArray[np.int64]

_MIN_CANDIDATES = 64
_NUCLEUS_CANDIDATES = 256
"""First guess at how many tokens a nucleus holds; a larger one is found by a full sort."""
_WIDEN = 16
"""How many times more candidates are looked at where the first did not settle a row."""
_BLOCK = 64
"""Size of the blocks whose maxima bound the k-th greatest logit from below."""


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
        self._seed = seed
        self.seen = SeenTokens(prompt_ids) if params.penalises else None
        self.ban_end = False
        """Whether the next token may not be an end of sequence."""
        bias = logit_bias or {}
        self.bias_ids: Ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.bias: Floats = np.fromiter(bias.values(), np.float32, len(bias))

    @functools.cached_property
    def generator(self) -> np.random.Generator:
        """Made once it is drawn from: greedy rows need none, nor its libraries in memory."""
        return np.random.Generator(np.random.PCG64(self._seed))

    def accept(self, token_id: int) -> None:
        """Note the token that was chosen."""
        if self.seen is not None:
            self.seen.add(token_id)


class Sampler:
    """Chooses a token for every row of a batch."""

    def __init__(self, *, end_ids: Iterable[int]) -> None:
        self._end_ids = np.array(sorted(end_ids), np.int64)

    def sample(self, logits: Floats, rows: Many[SamplerRow]) -> list[int | None]:
        """One token id a row; None where its logits are no numbers, or nothing but zeros, which is
        what is left of a row that overflowed before a norm.

        Args:
            logits: float32 [B, V]; may be changed in place.
            rows: the B rows' states; their generators advance by one draw where they draw.
        """
        blank = _blank(logits)
        _add_bias(logits, rows)
        _penalise(logits, rows)
        for i, row in enumerate(rows):
            if row.ban_end:
                logits[i, self._end_ids] = -np.inf
        chosen = logits.argmax(axis=1)  # a NaN counts as the greatest
        good = np.isfinite(logits[np.arange(len(rows)), chosen]) & ~blank
        picks = [int(token) if ok else None for token, ok in zip(chosen, good, strict=True)]
        for width, members in _group(rows, good).items():
            draws = [rows[i].generator.random() for i in members]
            theirs = logits if len(members) == len(rows) else logits[members]
            drawn = (_draw_truncated if width else _draw_plain)(
                theirs, [rows[i].params for i in members], np.array(draws), width
            )
            for i, pick in zip(members, drawn, strict=True):
                picks[i] = int(pick)
        return picks


def _blank(logits: Floats) -> NDArray[np.bool_]:
    """Which rows are all zeros: [B]."""
    blank = np.asarray(~logits[:, :: max(1, logits.shape[1] // _BLOCK)].any(axis=1))
    for i in np.flatnonzero(blank):
        blank[i] = not logits[i].any()
    return blank


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


def _group(rows: Many[SamplerRow], good: NDArray[np.bool_]) -> dict[int, list[int]]:
    """Good rows that draw, by how many candidates they look at first; 0 for the whole vocabulary.

    The width follows from the row's own parameters, so that its neighbours change nothing.
    """
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        if good[i] and not row.params.greedy:
            width = row.params.candidates if row.params.truncates else 0
            groups.setdefault(width, []).append(i)
    return groups


def _draw_plain(logits: Floats, params: Many[SamplingParams], draws: Reals, _: int) -> Ids:
    """Invert the cumulative distribution over the whole vocabulary, in order of id: [R]."""
    picks = np.empty(len(params), np.int64)
    for i, (settings, draw) in enumerate(zip(params, draws, strict=True)):
        weights = _weights(logits[i], settings.temperature)
        # Sum by blocks first: only the block that holds the draw is summed token by token.
        starts = np.arange(0, len(weights), _BLOCK)
        blocks = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
        target = draw * blocks[-1]
        block = min(int(np.searchsorted(blocks, target, side="right")), len(blocks) - 1)
        start = block * _BLOCK
        inner = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
        before = blocks[block - 1] if block else 0.0
        place = int(np.searchsorted(inner, target - before, side="right"))
        picks[i] = start + min(place, int(np.flatnonzero(weights[start : start + _BLOCK])[-1]))
    return picks


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The greatest logits of every row, in falling order, equal ones by id; R rows of up to W.

    `ids` and `weights` are [R, W]; `counts` [R] tells how many of a row are real, the rest weigh
    nothing. `weights` are relative to the row's greatest.
    """

    ids: Ids
    values: Floats
    weights: Reals
    counts: Ids

    @classmethod
    def of(cls, logits: Floats, temperatures: Reals, width: int) -> _Candidates:
        """At least the `width` greatest of each row of `logits` [R, V]."""
        size = logits.shape[1]
        if width >= size:
            ids = np.broadcast_to(np.arange(size), logits.shape)
            values, counts = logits, np.full(len(logits), size)
        else:
            ids, values, counts = _greatest(logits, width)
        order = np.argsort(-values, axis=1, kind="stable")
        values = np.take_along_axis(values, order, axis=1)
        weights = np.exp((values - values[:, :1]).astype(np.float64) / temperatures[:, None])
        return cls(np.take_along_axis(ids, order, axis=1), values, weights, counts)


def _draw_truncated(logits: Floats, params: Many[SamplingParams], draws: Reals, width: int) -> Ids:
    """Draw from the `width` best candidates; for rows that these do not settle, from more: [R]."""
    rows = np.arange(len(params))
    best = _Candidates.of(logits, np.array([p.temperature for p in params]), width)
    top_k = np.array([p.top_k for p in params])
    kept = np.where(top_k > 0, np.minimum(top_k, best.counts), best.counts)
    within = np.arange(best.ids.shape[1]) < kept[:, None]
    cumulative = np.cumsum(np.where(within, best.weights, 0.0), axis=1)
    kept = np.minimum(kept, _nucleus(logits, params, best, cumulative))
    least = np.array([p.min_p for p in params])
    kept = np.minimum(kept, np.count_nonzero(best.weights >= least[:, None], axis=1))
    target = draws * cumulative[rows, kept - 1]
    place = np.count_nonzero(cumulative <= target[:, None], axis=1)
    picks = best.ids[rows, np.minimum(place, kept - 1)]
    # Where the kept end above the least candidate, nothing outside could have been kept.
    settled = best.values[rows, kept - 1] > best.values[rows, best.counts - 1]
    again = np.flatnonzero(~settled & (best.counts < logits.shape[1]))
    if again.size:
        picks[again] = _draw_truncated(
            logits[again], [params[int(i)] for i in again], draws[again], width * _WIDEN
        )
    return np.asarray(picks)


def _nucleus(
    logits: Floats, params: Many[SamplingParams], best: _Candidates, cumulative: Reals
) -> Ids:
    """How many candidates reach top_p: [R].

    After top-k the whole is the sum of the candidates. Without it the whole is that of the
    vocabulary, which lies between the candidates' sum and that plus the least candidate's weight
    for every other token: where both bounds give the same count, the vocabulary is not summed.
    """
    top_p = np.array([p.top_p for p in params])
    low = cumulative[:, -1]
    outside = np.where([p.top_k > 0 for p in params], 0, logits.shape[1] - best.counts)
    high = low + outside * best.weights[np.arange(len(params)), best.counts - 1]

    def count(whole: Reals) -> Ids:
        return np.asarray(np.count_nonzero(cumulative < (top_p * whole)[:, None], axis=1) + 1)

    counts, most = count(low), count(high)
    for i in map(int, np.flatnonzero(counts != most)):
        low[i] = _weights(logits[i], params[i].temperature).sum(dtype=np.float64)
    counts = np.where(counts != most, count(low), counts)
    return np.where(top_p < 1.0, counts, logits.shape[1])


def _greatest(logits: Floats, count: int) -> tuple[Ids, Floats, Ids]:
    """Ids in order and values [R, W] of at least the `count` greatest of each row, and how many.

    The count-th greatest of the blocks' maxima cannot be above the count-th greatest logit, so
    everything at or above it is a superset, found without sorting the vocabulary.
    """
    size = logits.shape[1]
    blocks = size // _BLOCK
    if blocks < 2 * count:
        least = np.partition(logits, size - count, axis=1)[:, size - count]
    else:
        maxima = logits[:, : blocks * _BLOCK].reshape(-1, _BLOCK, blocks).max(axis=1)
        least = np.partition(maxima, blocks - count, axis=1)[:, blocks - count]
    at, token = np.divmod(np.flatnonzero(logits >= least[:, None]), size)
    counts = np.bincount(at, minlength=len(logits))
    place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.zeros((len(logits), counts.max()), np.int64)
    values: Floats = np.full(ids.shape, -np.inf, np.float32)
    ids[at, place], values[at, place] = token, logits[at, token]
    return ids, values, counts


def _weights(logits: Floats, temperature: float) -> Floats:
    """Unnormalised probabilities of a row [V], the greatest being 1."""
    weights = logits - logits.max()
    weights /= np.float32(temperature)
    return np.asarray(np.exp(weights, out=weights))
