"""Logits that are the same on every machine and with every release of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def uniform(seed: int, *shape: int) -> NDArray[np.float64]:
    """From PCG64's own stream, which is promised to stay."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape))) >> np.uint64(11)
    return (raw * 2.0**-53).reshape(shape)


def made_logits(seed: int, rows: int, vocabulary: int, spread: float) -> NDArray[np.float32]:
    """[rows, vocabulary], about normal, with some equal ones, and a few far above the others."""
    drawn = (uniform(seed, rows, vocabulary, 4).sum(-1) - 2.0) * spread
    drawn[:, ::7] = np.round(drawn[:, ::7] * 4.0) / 4.0
    for row in range(rows):
        drawn[row, (np.arange(5) * 997 + row * 31) % vocabulary] += spread * 2.0
    return drawn.astype(np.float32)
