"""The 4-bit blocks of a GGUF file come through the fp32 graph as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from exporters.graph.graph import Graph
from exporters.graph.pack import projections
from exporters.graph.records import GRAPH_FILE
from exporters.measure.runner import Runner
from exporters.quantise.schemes import SCHEMES
from exporters.quantise.x4 import ZERO, find_blocks, quantise_x4
from exporters.trace.reference import export_clean, kv_layout
from tests.export.tiny import POSITIONS, make_model

pytestmark = pytest.mark.export

Q4_1 = GGMLQuantizationType.Q4_1
IDS = list(range(5, 60))


def through_q4_1(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(dequantize(quantize(np.ascontiguousarray(weight), Q4_1), Q4_1), np.float32)


def test_blocks_are_found_bit_for_bit() -> None:
    weight = through_q4_1(np.random.default_rng(5).standard_normal((48, 96)).astype(np.float32))
    found = find_blocks(weight)
    assert found is not None
    nibbles = np.stack([found.q & 15, found.q >> 4], -1).reshape(48, 3, 32).astype(np.float32)
    least = found.offsets - ZERO * found.scales
    again = nibbles * found.scales[..., None] + least[..., None]
    np.testing.assert_allclose(again.reshape(weight.shape), weight, rtol=0, atol=1e-6)
    weight[3, 7] += 0.01
    assert find_blocks(weight) is None


def test_a_graph_of_such_blocks_stays_near(tmp_path: Path) -> None:
    model = make_model("qwen2")
    kv = kv_layout(model.config)
    io, _ = export_clean(model, tmp_path, kv=kv, context=POSITIONS)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    for projection in projections(graph):
        weight = np.asarray(graph.weights[projection.weight]).T
        graph.weights[projection.weight] = np.ascontiguousarray(through_q4_1(weight).T)
    log_probs = []
    for name in ("exact", "x4"):
        folder = tmp_path / name
        folder.mkdir()
        graph.save(folder / GRAPH_FILE)
        runner = Runner(folder / GRAPH_FILE, io=io, kv=kv, capacity=POSITIONS)
        log_probs.append(runner.log_probs(IDS))
        if name == "exact":
            quantise_x4(graph, SCHEMES["x4"])
    difference = np.abs(log_probs[0] - log_probs[1])
    assert 0 < difference.mean() < 0.02
