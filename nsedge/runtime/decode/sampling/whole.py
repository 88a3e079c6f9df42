"""Drawing from a row's whole vocabulary, in order of id: where no step has to sort tokens."""

from __future__ import annotations

import numpy as np

from nsedge.api import Xtc
from nsedge.runtime.decode.sampling.candidates import block_sums, total_of, weights_of
from nsedge.runtime.decode.sampling.logits import BLOCK, Floats, Ids
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.steered import Surprise
from nsedge.runtime.decode.sampling.temperature import Temperature

LEAST_LIKELY = 1e-20
"""Weights below it are taken anew, relative to the greatest of them: float32 ends at 1e-38."""
TEMPERATURE = Temperature()


def draw_whole(logits: Floats, row: SamplerRow, draw: float, *, room: Floats) -> int:
    """The token that `draw`, 0 to 1, stands for in a row [V]; its memory learns of it. `room` [V]
    is scratch."""
    temperature = TEMPERATURE.of_row(logits, row.params)
    weights = weights_of(logits, temperature, room=room)
    memory = row.memory
    if isinstance(memory, Surprise):
        bound_surprise(weights, memory.bound)
        sums = block_sums(weights)
        token = draw_from(weights, sums, draw)
        memory.learn(float(weights[token]) / float(sums.sum(dtype=np.float64)))
        return token
    xtc = row.params.xtc
    if xtc is not None and row.chance < xtc.probability:
        dropped = top_choices(logits, weights, xtc, min_keep=row.params.min_keep)
        weights[dropped] = 0.0
        if dropped.size and weights.max() < LEAST_LIKELY:
            left = logits.copy()
            left[dropped] = -np.inf
            weights = weights_of(left, temperature)
    return draw_from(weights, block_sums(weights), draw)


def bound_surprise(weights: Floats, bound: float) -> None:
    """Drop from weights [V], the greatest being 1, what is more surprising than `bound` bits; the
    likeliest stays in any case."""
    least = total_of(weights) * 2.0 ** min(-bound, 1000.0)
    if least > 1.0:
        likeliest = int(weights.argmax())
        weights[:] = 0.0
        weights[likeliest] = 1.0
    else:
        weights *= weights >= np.float32(least)


def top_choices(logits: Floats, weights: Floats, xtc: Xtc, *, min_keep: int) -> Ids:
    """The tokens of a row [V] that are likely enough to be dropped, all but the least likely of
    them; none, where fewer than `min_keep` would be left."""
    likely = np.flatnonzero(weights >= total_of(weights) * xtc.threshold)
    if likely.size < 2:
        return likely[:0]
    if min_keep and np.count_nonzero(logits > -np.inf) - (likely.size - 1) < min_keep:
        return likely[:0]
    return np.asarray(likely[np.lexsort((likely, -logits[likely]))[:-1]])


def draw_from(weights: Floats, sums: Floats, draw: float) -> int:
    """Invert the cumulative distribution over the whole vocabulary, in order of id: by the `sums`
    of blocks first, then by the tokens in the one that holds the draw."""
    blocks = np.cumsum(sums, dtype=np.float64)
    target = draw * blocks[-1]
    block = min(int(np.searchsorted(blocks, target, side="right")), len(blocks) - 1)
    inside = weights[block * BLOCK : (block + 1) * BLOCK]
    inner = np.cumsum(inside, dtype=np.float64)
    before = blocks[block - 1] if block else 0.0
    place = int(np.searchsorted(inner, target - before, side="right"))
    return block * BLOCK + min(place, int(np.flatnonzero(inside)[-1]))
