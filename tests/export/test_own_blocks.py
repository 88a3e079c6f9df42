"""Blocks of a GGUF file in a graph: the file's own weights, and near to its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from exporters.bundle.orders import Order, variants_named
from exporters.errors import Refused
from exporters.gguf.file import GgufFile
from exporters.gguf.folder import write_description
from exporters.gguf.graph import TABLE_WEIGHT, make_reference
from exporters.gguf.importing import GgufSource
from exporters.graph.graph import Graph, attribute
from exporters.graph.native import write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, ReferenceRecord, native_record
from exporters.measure.runner import Runner
from exporters.quantise.own import quantise_own
from exporters.quantise.schemes import SCHEMES
from nsedge import native
from tests.export.gguf_models import POSITIONS, write_model

pytestmark = pytest.mark.export

Floats = NDArray[np.float32]
KINDS = [
    *(Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0),
    *(Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
]
IDS = list(range(5, 60))
NEAR = 2**-10
"""Of the greatest weight: scales and least values that become halves move weights by as much."""


def made(tmp_path: Path, family: str, kind: Kind, **others: Kind) -> tuple[Graph, Graph]:
    """The fp32 graph of a file, and the one that keeps its blocks; both are in `tmp_path`."""
    write_model(tmp_path / "tiny.gguf", family, kind, others=others)
    file = GgufFile(tmp_path / "tiny.gguf")
    make_reference(file, tmp_path, max_context=POSITIONS)
    graph = Graph.load(tmp_path / GRAPH_FILE)
    quantise_own(graph, SCHEMES["gguf"], GgufSource(folder=tmp_path, origin="tiny", file=file))
    (tmp_path / "own").mkdir()
    graph.save(tmp_path / "own" / GRAPH_FILE)
    return Graph.load(tmp_path / GRAPH_FILE), graph


def products(graph: Graph) -> dict[str, Any]:
    """Products of blocks, by name."""
    return {node.name: node for node in graph.nodes if node.op_type == "MatMulNBits"}


def restored(graph: Graph, node: Any) -> Floats:
    """The matrix [N, K] that a product of blocks multiplies by."""
    q, scales = (graph.weights[name] for name in node.input[1:3])
    if attribute(node, "bits") == 4:
        q = np.stack([q & 15, q >> 4], -1).reshape(*scales.shape, -1)
    middle = 1 << (attribute(node, "bits") - 1)
    weight = (q.astype(np.float32) - middle) * scales[..., None]
    offsets = graph.weights.get(f"{node.name}/offsets")
    if offsets is not None:
        weight += offsets[..., None]
    return weight.reshape(len(q), -1)


def wanted_of(graph: Graph, node: Any) -> Floats:
    """The matrix [N, K] of the same product in fp32."""
    (same,) = [each for each in graph.nodes if each.name == node.name]
    weight = np.asarray(graph.weights[same.input[1]])
    return weight if same.op_type == "FusedMatMul" else weight.T


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_weights_are_the_files(tmp_path: Path, family: str, kind: Kind) -> None:
    plain, graph = made(tmp_path, family, kind)
    nodes = products(graph)
    assert len(nodes) == 9
    for name, node in nodes.items():
        weight, wanted = restored(graph, node), wanted_of(plain, node)
        off = np.abs(weight - wanted).max() / np.abs(wanted).max()
        rounded = name == "/lm_head/MatMul" and node.input[1].startswith(TABLE_WEIGHT)
        assert off <= (0.5 / 127 if rounded else NEAR), name


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_said_stays_near(tmp_path: Path, family: str, kind: Kind) -> None:
    made(tmp_path, family, kind)
    check_nearness(tmp_path)


@pytest.mark.parametrize(
    ("others", "bits", "block"),
    [
        ({"attn_v": Kind.Q6_K}, 8, 16),
        ({"attn_v": Kind.Q8_0}, 8, 32),
        ({"attn_v": Kind.Q4_0}, 4, 32),
        ({"attn_v": Kind.F16}, 8, 32),
    ],
)
def test_parts_of_one_product_may_have_different_blocks(
    tmp_path: Path, others: dict[str, Kind], bits: int, block: int
) -> None:
    plain, graph = made(tmp_path, "llama", Kind.Q4_K, **others)
    node = products(graph)["/model/layers.0/self_attn/q_proj+2"]
    assert (attribute(node, "bits"), attribute(node, "block_size")) == (bits, block)
    wanted = wanted_of(plain, node)
    off = np.abs(restored(graph, node) - wanted).max() / np.abs(wanted).max()
    assert off <= (0.5 / 127 if Kind.F16 in others.values() else NEAR)
    check_nearness(tmp_path)


def check_nearness(tmp_path: Path) -> None:
    """Both forms of the graph in `own` say about the same as that in `tmp_path`."""
    record = ReferenceRecord.read(tmp_path)
    own, form = tmp_path / "own" / GRAPH_FILE, tmp_path / "own" / NATIVE_FILE
    runners = [
        Runner(path, io=record.io, kv=record.kv, capacity=POSITIONS)
        for path in (tmp_path / GRAPH_FILE, own)
    ]
    wanted, got = (runner.log_probs(IDS) for runner in runners)
    assert 0 < np.abs(wanted - got).mean() < 0.03
    if native.why_not() is None:
        assert write_native(own, form) is None
        nodes = [node.op_type for node in Graph.load(form).nodes]
        assert "MatMulNBits" not in nodes
        again = native_record(record)
        requires = (native.REQUIREMENT,)
        runner = Runner(form, io=again.io, kv=again.kv, capacity=POSITIONS, requires=requires)
        assert 0 < np.abs(wanted - runner.log_probs(IDS)).mean() < 0.03


def test_what_has_no_blocks_of_its_own_is_refused_at_once(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf", "llama", Kind.F16)
    source = GgufSource(folder=tmp_path, origin="Tiny", file=GgufFile(tmp_path / "tiny.gguf"))
    write_description(source.file, tmp_path, ends=[2])
    order = Order(source=source, variants=variants_named("cpu-gguf"))
    with pytest.raises(Refused, match=r"--scheme gguf is for GGUF files .*; Tiny has no blocks of"):
        order.check()
