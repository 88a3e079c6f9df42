"""Blocks of small integers against numpy, and graphs of them in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporters.errors import ExportError, Refused
from exporters.graph.graph import Graph, attribute
from exporters.measure.promise import Promise
from exporters.quantise.blocks import Blocks, quantise, quantise_blocks
from exporters.quantise.rounding import LEVELS, PAIR_LEVELS, nearest_columns
from exporters.quantise.schemes import SCHEMES, scheme_of
from nsedge.bundle.causal_lm import Fidelity

F32 = NDArray[np.float32]


def random(*shape: int) -> F32:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def restored(blocks: Blocks, bits: int) -> F32:
    """The matrix that the blocks stand for, padding included."""
    q, zeros = blocks.q, np.full(blocks.scales.shape, 128)
    if bits == 4:
        assert blocks.zeros is not None
        q = unpaired(blocks.q)
        zeros = unpaired(blocks.zeros)[:, : blocks.scales.shape[1]]
    values = (q.astype(np.float32) - zeros[..., None]) * blocks.scales[..., None]
    return values.reshape(len(values), -1).astype(np.float32)


def unpaired(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


@pytest.mark.parametrize(("bits", "levels"), [(8, 254), (4, 15)])
@pytest.mark.parametrize("width", [64, 96, 80])
def test_each_weight_moves_by_half_a_step_at_most(bits: int, levels: int, width: int) -> None:
    weight = random(7, width)
    blocks = quantise_blocks(weight, bits=bits, block=32)
    padded = np.pad(weight, ((0, 0), (0, -width % 32)))
    error = np.abs(restored(blocks, bits) - padded).reshape(7, -1, 32).max(-1)
    # A zero point that is rounded shifts its whole block by up to half a step more; a scale that is
    # rounded to a half moves the outermost levels by 2^-11 of the range.
    steps = (0.5 if bits == 8 else 1.0) + levels * 2**-11
    assert (error <= blocks.scales * steps).all()
    assert (blocks.scales.astype(np.float16) == blocks.scales).all()
    assert blocks.scales.max() <= 2 * np.abs(weight).max() / levels * 1.001


def test_a_block_of_zeros_stays_zero() -> None:
    weight = np.zeros((2, 64), np.float32)
    for bits in (8, 4):
        blocks = quantise_blocks(weight, bits=bits, block=32)
        assert np.isfinite(blocks.scales).all()
        assert not restored(blocks, bits).any()


def tied_graph(table: F32, weight: F32, bias: F32) -> Graph:
    """ids -> table -> @ weight + bias -> @ table.T, as a decoder's two ends."""
    value = helper.make_tensor_value_info
    vocabulary, hidden = table.shape
    return Graph(
        nodes=[
            helper.make_node("Gather", ["table", "ids"], ["h"], name="embed"),
            helper.make_node("MatMul", ["h", "weight"], ["m"], name="project"),
            helper.make_node("Add", ["m", "bias"], ["b"], name="shift"),
            helper.make_node(
                "FusedMatMul",
                ["b", "table"],
                ["out"],
                name="head",
                domain="com.microsoft",
                transB=1,
            ),
        ],
        inputs=[value("ids", TensorProto.INT64, ["batch", "queries"])],
        outputs=[
            value("out", TensorProto.FLOAT, ["batch", "queries", vocabulary]),
            value("h", TensorProto.FLOAT, ["batch", "queries", hidden]),
        ],
        weights={"table": table, "weight": weight, "bias": bias},
    )


def run(graph: Graph, folder: Path, ids: NDArray[np.int64]) -> tuple[F32, F32]:
    folder.mkdir(exist_ok=True)
    graph.save(folder / "model.onnx")
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    out, looked_up = session.run(["out", "h"], {"ids": ids})
    return out, looked_up


@pytest.mark.parametrize("scheme", ["int8-b64", "int8-b32", "int4-b32", "fp32"])
def test_a_quantised_graph_computes_nearly_the_same(tmp_path: Path, scheme: str) -> None:
    table, weight, bias = random(600, 64), random(64, 64) / 8, random(64)
    ids = np.array([[3, 599, 0], [17, 4, 4]])
    graph = tied_graph(table, weight, bias)
    kept = quantise(graph, SCHEMES[scheme])
    out, looked_up = run(graph, tmp_path / scheme, ids)
    wanted = (table[ids] @ weight + bias) @ table.T
    tolerance = {"int8-b64": 0.02, "int8-b32": 0.02, "int4-b32": 0.2, "fp32": 1e-5}[scheme]
    assert np.abs(out - wanted).max() <= tolerance * np.abs(wanted).max()
    if scheme != "fp32":
        assert sorted(kept) == ["biases", "scales"]
        assert kept["biases"] == 64 * 4
        block = SCHEMES[scheme].table_block
        lookup = restored(quantise_blocks(table, bits=8, block=block), 8)[ids]
        np.testing.assert_allclose(looked_up, lookup, rtol=1e-6)


def test_head_and_embedding_share_one_table(tmp_path: Path) -> None:
    graph = tied_graph(random(600, 64), random(64, 64), random(64))
    quantise(graph, SCHEMES["int8-b64"])
    tables = [name for name, array in graph.weights.items() if array.size >= 600 * 64]
    readers = graph.consumers()[tables[0]]
    assert len(tables) == 1
    assert sorted(node.op_type for node in readers) == ["GatherBlockQuantized", "MatMulNBits"]
    assert all(
        attribute(node, "accuracy_level") == 4
        for node in graph.nodes
        if node.op_type == "MatMulNBits"
    )


def test_a_width_that_no_block_divides_gets_a_smaller_one() -> None:
    graph = tied_graph(random(600, 80), random(80, 80), random(80))
    quantise(graph, SCHEMES["int8-b64"])
    (lookup,) = [n for n in graph.nodes if n.op_type == "GatherBlockQuantized"]
    assert attribute(lookup, "block_size") == 16
    graph = tied_graph(random(4200, 8), random(8, 8), random(8))
    with pytest.raises(Refused, match="hidden size 8 is no multiple of 16"):
        quantise(graph, SCHEMES["int8-b64"])


def test_a_large_matrix_left_in_fp32_is_an_error() -> None:
    graph = tied_graph(random(600, 64), random(64, 64), random(64))
    graph.weights["experts"] = random(2, 64, 600)
    graph.nodes.append(helper.make_node("MatMul", ["b", "experts"], ["e"], name="moe"))
    graph.outputs.append(helper.make_tensor_value_info("e", TensorProto.FLOAT, None))
    with pytest.raises(Refused, match=r"moe \(MatMul by \[2, 64, 600\]\) cannot be quantised"):
        quantise(graph, SCHEMES["int8-b64"])


def test_schemes_are_known_by_name() -> None:
    assert all(scheme_of(name).name == name for name in SCHEMES)
    with pytest.raises(ExportError, match="no scheme int3; there are int8-b64, "):
        scheme_of("int3")


@pytest.mark.parametrize(
    ("change", "kept"),
    [({}, True), ({"kl": 0.011}, False), ({"top1": 0.92}, False), ({"positions": 499}, False)],
)
def test_a_promise_needs_nearness_and_enough_positions(
    change: dict[str, float], kept: bool
) -> None:
    told = {"positions": 500, "kl": 0.010, "top1": 0.93, "perplexity": 15.0} | change
    fidelity = Fidelity(perplexity_fp32=15.0, text_sha256="0" * 64, **told)  # type: ignore[arg-type]
    assert Promise(kl=0.010, top1=0.93).kept_by(fidelity) is kept


def test_neighbours_of_a_column_never_come_to_more_than_16_bits_hold() -> None:
    weight = np.random.default_rng(3).standard_normal((65, 40)).astype(np.float32)
    weight[10:12] *= 9.0
    columns = nearest_columns(weight)
    sizes = np.abs(columns.q.astype(int))
    assert sizes.max() <= LEVELS
    assert (sizes[0:64:2] + sizes[1::2]).max() <= PAIR_LEVELS
    error = np.abs(columns.scales * columns.q - weight)
    assert (error <= 1.0001 * columns.scales).all()
    assert np.median(error / columns.scales) < 0.3
