"""When each token was said: dynamic time warping over what the alignment heads look at.

As OpenAI's whisper/timing.py has it: each head's weights are normalised over the tokens, smoothed
by a median over 7 positions, averaged, and the cheapest monotonic path through them tells the
times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.speech.vocabulary import TOKEN_S

MEDIAN = 7
"""Positions that a median is over."""
_LEAST = 1e-9
_EXCHANGES = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6)),
    *((2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)
"""Puts the median of seven in the middle: the least number of exchanges, as Devillard lists them
("Fast median search", 1998)."""


def token_times(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """When each token begins, in seconds from the window's beginning: float64 [tokens], of weights
    float32 [heads, tokens, positions], 20 ms a position."""
    deviation = np.maximum(weights.std(axis=1, keepdims=True), _LEAST)
    scaled = (weights - weights.mean(axis=1, keepdims=True)) / deviation
    cost = -median_filtered(scaled).mean(axis=0, dtype=np.float64)
    tokens, positions = path(cost)
    begins = np.diff(tokens, prepend=-1) > 0
    return positions[begins].astype(np.float64) * TOKEN_S


def median_filtered(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of MEDIAN values around each, along the last axis, mirrored at its edges; as they
    are where there are too few. values: [heads, tokens, positions]."""
    reach = MEDIAN // 2
    if values.shape[-1] <= reach:
        return values
    result = np.empty_like(values)
    for head, found in zip(values, result, strict=True):  # one at a time stays in the cache
        padded = np.pad(head, ((0, 0), (reach, reach)), mode="reflect")
        found[:] = _median([padded[:, at : at + head.shape[-1]] for at in range(MEDIAN)])
    return result


def _median(values: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Of MEDIAN arrays, element by element."""
    values = list(values)
    for low, high in _EXCHANGES:
        smaller = np.minimum(values[low], values[high])
        values[high] = np.maximum(values[low], values[high])
        values[low] = smaller
    return values[MEDIAN // 2]


def path(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the cheapest way through `cost` [N, M] from its first corner to its last,
    by steps down, right, or both.

    All cells whose row and column add up to the same are filled at once.
    """
    rows, columns = cost.shape
    moves = np.zeros((rows, columns), np.int8)
    before = np.full(rows + 1, np.inf)  # the diagonal before the last; [i + 1] is row i
    last = np.full(rows + 1, np.inf)
    before[0] = 0.0
    for diagonal in range(rows + columns - 1):
        low, high = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        at = np.arange(low, high)
        both, down, right = before[low:high], last[low:high], last[low + 1 : high + 1]
        move = np.where((down < both) & (down < right), 1, 2)
        move[(both < down) & (both < right)] = 0
        current = np.full(rows + 1, np.inf)
        cheapest = np.choose(move, (both, down, right))
        current[low + 1 : high + 1] = cost[at, diagonal - at] + cheapest
        moves[at, diagonal - at] = move
        before, last = last, current
    return _walked(moves)


def _walked(moves: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells of the way, from its end back to its beginning, turned round."""
    row, column = moves.shape[0] - 1, moves.shape[1] - 1
    cells = [(row, column)]
    while row or column:
        move = 2 if row == 0 else 1 if column == 0 else moves[row, column]
        row -= move != 2
        column -= move != 1
        cells.append((row, column))
    way = np.array(cells[::-1], np.int64)
    return way[:, 0], way[:, 1]
