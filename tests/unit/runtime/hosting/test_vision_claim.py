"""What a model that sees is held to: the rows of pictures that it keeps are part of that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from nsedge.bundle.causal_lm import KvLayout
from nsedge.runtime.encode.row_cache import RowCache
from nsedge.runtime.graph.kv import KvBytes
from nsedge.runtime.hosting.vision_lm import VisionModel
from nsedge.runtime.machine.amounts import Amount


def opened(cache: RowCache) -> VisionModel:
    """One that nothing was opened for: what it measures is given."""
    model: Any = VisionModel.__new__(VisionModel)
    model._weights_bytes, model._arena_bytes = 1000, 200
    model.addons = SimpleNamespace(session_bytes=0)
    model.executor = SimpleNamespace(kv_bytes=lambda: KvBytes(resident=1 << 20, reserved=1 << 21))
    model.variant = SimpleNamespace(kv=KvLayout(layers=1, heads=1, head_dim=4))
    model.capacity = 8
    model.eyes = SimpleNamespace(cache=cache)
    return model  # type: ignore[no-any-return]


def test_rows_that_are_kept_count_in_the_claim() -> None:
    cache = RowCache(most_bytes=1 << 16)
    model = opened(cache)
    held, claimed = model.measure()
    rows = np.zeros((16, 32), np.float32)
    cache.put("a", rows)
    more, higher = model.measure()
    assert higher - claimed == Amount(rows.nbytes)
    assert more.kv_bytes - held.kv_bytes == rows.nbytes
    assert model.cache_bytes() == more.kv_bytes
    assert more.kv_reserved_bytes == (1 << 21) + (1 << 16)
