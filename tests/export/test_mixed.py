"""4 bits where they harm least, as many as the budget allows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from exporters.graph.graph import Graph, attribute
from exporters.graph.records import GRAPH_FILE
from exporters.measure.fidelity import divergence
from exporters.measure.runner import Runner
from exporters.quantise.blocks import quantise_blocks
from exporters.quantise.mixed import quantise_mixed, round_blocks
from exporters.quantise.observe import Calibration
from exporters.quantise.schemes import SCHEMES
from exporters.trace.reference import compare, export_clean, kv_layout
from nsedge.bundle.causal_lm import GraphIo, KvLayout
from tests.export.tiny import POSITIONS, make_model

pytestmark = pytest.mark.export

MATRICES = 8
PASSAGES = [list(range(3, 60)), list(range(200, 120, -2))]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GraphIo, KvLayout]:
    model = make_model("qwen2")
    folder = tmp_path_factory.mktemp("qwen2")
    kv = kv_layout(model.config)
    io, _ = export_clean(model, folder, kv=kv, context=POSITIONS)
    return folder, io, kv


@pytest.mark.parametrize(("budget", "least", "most"), [(0.0, 0, 0), (2.6e-5, 1, 7), (50.0, 8, 8)])
def test_the_budget_is_kept_and_used(
    budget: float,
    least: int,
    most: int,
    exported: tuple[Path, GraphIo, KvLayout],
    tmp_path: Path,
) -> None:
    folder, io, kv = exported
    graph = Graph.load(folder / GRAPH_FILE)
    scheme = dataclasses.replace(SCHEMES["mixed-4-8"], budget=budget)
    quantise_mixed(graph, scheme, Calibration(passages=PASSAGES, io=io, kv=kv))
    graph.save(tmp_path / GRAPH_FILE)
    bits = [attribute(node, "bits") for node in graph.nodes if node.op_type == "MatMulNBits"]
    assert least <= bits.count(4) <= most
    assert bits.count(4) + bits.count(8) == MATRICES
    assert compare(make_model("qwen2"), tmp_path / GRAPH_FILE, io=io, kv=kv) < 5
    if most < MATRICES and least:
        readers = [
            Runner(place / GRAPH_FILE, io=io, kv=kv, capacity=POSITIONS)
            for place in (folder, tmp_path)
        ]
        rows = [np.concatenate([r.log_probs(ids) for ids in PASSAGES]) for r in readers]
        kl = np.mean([divergence(wanted, got) for wanted, got in zip(*rows, strict=True)])
        assert 0 < kl <= budget


def test_rows_make_up_for_errors_in_blocks_too() -> None:
    random = np.random.default_rng(4)
    inputs = random.standard_normal((400, 10)) @ random.standard_normal((10, 80))
    weight = random.standard_normal((80, 30)).astype(np.float32)
    moments = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    blocks, made = round_blocks(weight, moments, 32)
    plain = quantise_blocks(np.ascontiguousarray(weight.T), bits=4, block=32)
    assert blocks.q.shape == plain.q.shape
    assert blocks.zeros is not None
    assert plain.zeros is not None
    nibbles = np.stack([plain.q & 15, plain.q >> 4], -1).reshape(30, 3, 32).astype(np.float32)
    zeros = np.stack([plain.zeros & 15, plain.zeros >> 4], -1).reshape(30, -1)[:, :3]
    nearest = ((nibbles - zeros[..., None]) * plain.scales[..., None]).reshape(30, -1)[:, :80].T
    error = np.linalg.norm(inputs @ (made - weight))
    assert error < 0.6 * np.linalg.norm(inputs @ (nearest - weight))
