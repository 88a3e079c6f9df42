"""Round a matrix to 8 bits, one scale a column, each row making up for the errors before it.

The order of rows and the feedback are those of GPTQ (arXiv 2210.17323).
"""

from __future__ import annotations

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
    rest = (weight / scales).astype(np.float32)
    carry = _carry(moments)
    q = np.empty(weight.shape, np.int8)
    for begin in range(0, len(rest), BLOCK):
        end = min(begin + BLOCK, len(rest))
        errors = np.empty((end - begin, rest.shape[1]), np.float32)
        for row in range(begin, end):
            most = np.minimum(
                LEVELS, PAIR_LEVELS - np.abs(q[row - 1].astype(np.float32) * (row % 2))
            )
            rounded = np.clip(np.rint(rest[row]), -most, most)
            q[row] = rounded
            errors[row - begin] = (rest[row] - rounded) / carry[row, row]
            rest[row + 1 : end] -= carry[row, row + 1 : end, None] * errors[row - begin]
        rest[end:] -= carry[begin:end, end:].T @ errors
    return Columns(q, scales)


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
