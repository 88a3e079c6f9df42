"""Rows of a cache in host memory: what a copy takes along, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.bundle.causal_lm import KvLayout
from nsedge.runtime.graph.kv import HostKv

PLAIN = KvLayout(layers=2, heads=2, head_dim=4)
BLOCKS = KvLayout(layers=2, heads=2, head_dim=4, dtype="int8", block_tokens=16, token_scales=True)


@pytest.mark.parametrize(
    ("layout", "shared", "first"),
    [(PLAIN, 0, 0), (PLAIN, 5, 5), (BLOCKS, 15, 0), (BLOCKS, 16, 1), (BLOCKS, 37, 2)],
)
def test_what_is_shared_is_left_in_whole_blocks(layout: KvLayout, shared: int, first: int) -> None:
    cache = HostKv(layout, rows=2, capacity=64, dtype=layout.dtype)
    arrays = [memory for pair in cache.layers for memory in pair]
    for memory in arrays:
        memory[0], memory[1] = 1, 2
    cache.copy(0, 1, 40, shared=shared)
    end = -(-40 // layout.block_tokens)
    for memory in arrays:
        steps = memory.shape[2]
        wanted = [1 if first <= step < end else 2 for step in range(steps)]
        np.testing.assert_array_equal(memory[1].max(axis=(0, 2)), wanted)
        np.testing.assert_array_equal(memory[1].min(axis=(0, 2)), wanted)
        assert (memory[0] == 1).all()
