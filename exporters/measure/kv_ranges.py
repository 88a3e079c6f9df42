"""How large the numbers are that attention caches: what caches of few bits are made by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.measure.runner import Runner


def cached_ranges(
    reference: Runner, passages: Sequence[Sequence[int]], *, tokens: int | None = None
) -> NDArray[np.float32]:
    """The greatest magnitudes [layers, 2, heads, head_dim] that `reference` caches, keys first.

    Only the first `tokens` of the passages are read, where that is said.

    Raises:
        ValueError: there is no token.
    """
    greatest: NDArray[np.float32] | None = None
    left = sum(map(len, passages)) if tokens is None else tokens
    for passage in passages:
        ids = list(passage)[: min(reference.capacity, left)]
        if not ids:
            continue
        left -= len(ids)
        reference.log_probs(ids, len(ids) - 1)
        seen = np.abs(reference.cached(len(ids))).max(axis=3)
        greatest = seen if greatest is None else np.maximum(greatest, seen)
    if greatest is None:
        raise ValueError("no passages to take ranges from")
    return greatest
