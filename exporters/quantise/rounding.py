"""Round a matrix, each row making up for the errors of those before it.

The order of rows and the feedback are those of GPTQ (arXiv 2210.17323).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
PAIR_LEVELS = 128
"""What two neighbouring weights of a column come to together, at most. AVX2 without VNNI adds the
products of two neighbours in 16 bits, which saturate: 255 * 128 just fits."""
DAMPING = 0.01
BLOCK = 96
"""Rows whose errors are carried on together."""


@dataclass(frozen=True)
class Columns:
    """A matrix [K, N] as q int8 [K, N] and scales [N]: weight = scale * q."""

    q: NDArray[np.int8]
    scales: NDArray[np.float32]


def round_columns(weight: NDArray[np.float32], moments: NDArray[np.float32]) -> Columns:
    """Round `weight` [K, N] so that x @ weight changes least; `moments` [K, K] are those of x."""
    scales = _scales(weight)
    q = np.empty(weight.shape, np.int8)

    def nearest(row: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        taken = np.abs(q[row - 1].astype(np.float32)) if row % 2 else np.float32(0)
        most = np.minimum(LEVELS, PAIR_LEVELS - taken)
        rounded = np.clip(np.rint(values), -most, most)
        q[row] = rounded
        return np.asarray(rounded, np.float32)

    carry_errors((weight / scales).astype(np.float32), moments, nearest)
    return Columns(q, scales)


def nearest_columns(weight: NDArray[np.float32]) -> Columns:
    """Round `weight` [K, N] each number by itself, neighbours within what they may come to."""
    scales = _scales(weight)
    q = np.clip(np.rint(weight / scales), -LEVELS, LEVELS)
    pairs = len(q) // 2
    most = PAIR_LEVELS - np.abs(q[0 : 2 * pairs : 2])
    q[1 : 2 * pairs : 2] = np.clip(q[1 : 2 * pairs : 2], -most, most)
    return Columns(q.astype(np.int8), scales)


def carry_errors(
    weight: NDArray[np.float32],
    moments: NDArray[np.float32],
    nearest: Callable[[int, NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    """Let `nearest` round `weight` [K, N] row by row; `weight` is used up.

    nearest(row, values [N]) gives what stands for the values; the rows that follow make up for the
    difference, as far as inputs of these moments [K, K] go together.
    """
    carry = _carry(moments)
    for begin in range(0, len(weight), BLOCK):
        end = min(begin + BLOCK, len(weight))
        errors = np.empty((end - begin, weight.shape[1]), np.float32)
        for row in range(begin, end):
            error = (weight[row] - nearest(row, weight[row])) / carry[row, row]
            weight[row + 1 : end] -= carry[row, row + 1 : end, None] * error
            errors[row - begin] = error
        weight[end:] -= carry[begin:end, end:].T @ errors


def _scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    size = np.abs(weight)
    pairs = size[0 : len(size) - 1 : 2] + size[1::2]
    greatest = np.maximum(size.max(0) / LEVELS, pairs.max(0) / PAIR_LEVELS)
    return np.maximum(greatest, np.finfo(np.float32).tiny).astype(np.float32)


def _carry(moments: NDArray[np.float32]) -> NDArray[np.float32]:
    """The upper Cholesky factor [K, K] of the moments' inverse."""
    damped = moments.astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * damped.trace() / len(damped) + 1e-12
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
