"""Keys whose channels differ widely, evened out for a cache that has one scale a token.

A score is q . k. Where some channels of k are many times as large as the others, they set the scale
of the whole key, and 8 bits leave the others little. Dividing a channel of k by a number and
multiplying that of q by it changes no score (arXiv 2405.04532). The two channels that
a rotary embedding turns together have the same number, so that it may be done before; and numbers
are powers of two, so that nothing is rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDE = 8.0
"""How many times its head's median a channel must be before keys are evened out: three of the
eight bits. Qwen2.5-Coder-0.5B has up to 45 in five of its layers, the starter 7 at most."""
LEAST = 1e-6

Floats = NDArray[np.float32]


def spread(ranges: Floats) -> float:
    """How many times its head's median a channel of keys is, of magnitudes [heads, head_dim]."""
    median = np.maximum(np.median(ranges, axis=-1), LEAST)
    return float((ranges.max(-1) / median).max())


def factors(ranges: Floats, *, heads: int, rotary: int) -> Floats:
    """What to multiply query, key and value by, packed [(heads + 2 kv_heads) * head_dim].

    `ranges` [kv_heads, head_dim] are the magnitudes of keys, `rotary` the channels that are turned.
    Key and query get opposite powers of two, half of their logarithm above and below 0.
    """
    kv_heads, size = ranges.shape
    half = rotary // 2
    paired = np.maximum(ranges, LEAST)
    paired[:, :half] = paired[:, half:rotary] = np.maximum(paired[:, :half], paired[:, half:rotary])
    powers = np.log2(paired)
    powers -= (powers.max(-1, keepdims=True) + powers.min(-1, keepdims=True)) / 2
    grown = np.exp2(np.rint(powers))
    query = np.repeat(grown, heads // kv_heads, axis=0)
    value = np.ones((kv_heads, size))
    packed = np.concatenate([query, 1 / grown, value]).reshape(-1)
    return packed.astype(np.float32)
