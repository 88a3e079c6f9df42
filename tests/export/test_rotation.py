"""Rotations change nothing, and 8-bit rows and channels stay near."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from exporters.errors import Refused
from exporters.graph.graph import Graph
from exporters.graph.native import write_native
from exporters.graph.pack import projections
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, native_form
from exporters.measure.runner import Runner
from exporters.quantise.observe import Calibration, second_moments
from exporters.quantise.rotate import orthogonal, rotate
from exporters.quantise.rounding import LEVELS, PAIR_LEVELS, round_columns
from exporters.quantise.schemes import SCHEMES
from exporters.quantise.w8a8 import quantise_w8a8
from exporters.trace.reference import compare, export_clean, kv_layout
from nsedge import native
from nsedge.bundle.causal_lm import GraphIo, KvLayout, Variant
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor
from tests.export.tiny import POSITIONS, VOCABULARY, make_model

pytestmark = pytest.mark.export

TOLERANCE = 1e-4
QUANTISED_TOLERANCE = 0.6
PASSAGES = [list(range(3, 60)), list(range(200, 120, -2))]

Exported = tuple[Path, GraphIo, KvLayout]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Each model's fp32 graph, exported once."""
    made: dict[str, Exported] = {}

    def get(name: str) -> Exported:
        if name not in made:
            model = make_model(name)
            folder = tmp_path_factory.mktemp(name)
            kv = kv_layout(model.config)
            io, _ = export_clean(model, folder, kv=kv, context=POSITIONS)
            made[name] = folder, io, kv
        return made[name]

    return get


def test_hadamard_and_other_matrices_are_orthogonal() -> None:
    for size in (1, 2, 64, 48):
        turn = orthogonal(size, np.random.default_rng(1))
        np.testing.assert_allclose(turn @ turn.T, np.eye(size), atol=1e-12)
    assert set(np.abs(orthogonal(64, np.random.default_rng(1))).ravel()) == {0.125}


@pytest.mark.parametrize(
    "name", ["llama", "llama-tied-llama3-rope", "qwen2", "qwen3", "phi3", "mistral-window"]
)
def test_a_rotated_graph_computes_what_torch_does(
    name: str, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    folder, io, kv = exported(name)
    graph = Graph.load(folder / GRAPH_FILE)
    table = np.array(next(w for w in graph.weights.values() if w.shape == (VOCABULARY, 64)))
    rotation = rotate(graph)
    assert len(rotation.attended) == 2
    assert not any(np.array_equal(table, weight) for weight in graph.weights.values())
    graph.save(tmp_path / GRAPH_FILE)
    assert compare(make_model(name), tmp_path / GRAPH_FILE, io=io, kv=kv) <= TOLERANCE


def test_norms_before_the_residual_sum_are_refused_by_name(
    exported: Callable[[str], Exported],
) -> None:
    graph = Graph.load(exported("gemma3")[0] / GRAPH_FILE)
    with pytest.raises(Refused, match=r"layernorm.* does not commute with a rotation"):
        rotate(graph)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_w8a8_stays_near(name: str, exported: Callable[[str], Exported], tmp_path: Path) -> None:
    folder, io, kv = exported(name)
    graph = Graph.load(folder / GRAPH_FILE)
    calibration = Calibration(passages=PASSAGES, io=io, kv=kv)
    kept = quantise_w8a8(graph, SCHEMES["w8a8"], calibration)
    assert not list(projections(graph)) or set(kept) <= {"scales", "biases", "norms", "MatMul"} | {
        "rotary tables",
        "small tables",
    }
    graph.save(tmp_path / GRAPH_FILE)
    near = compare(make_model(name), tmp_path / GRAPH_FILE, io=io, kv=kv)
    assert TOLERANCE < near <= QUANTISED_TOLERANCE


def save_w8a8(exported: Exported, target: Path) -> tuple[GraphIo, KvLayout]:
    folder, io, kv = exported
    graph = Graph.load(folder / GRAPH_FILE)
    quantise_w8a8(graph, SCHEMES["w8a8"], Calibration(passages=PASSAGES, io=io, kv=kv))
    graph.save(target / GRAPH_FILE)
    return io, kv


def test_a_row_is_the_same_in_any_company(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    io, kv = save_w8a8(exported("llama"), tmp_path)
    runner = Runner(tmp_path / GRAPH_FILE, io=io, kv=kv, capacity=32, rows=3)
    together = runner.forward(np.array([[5], [90], [300]]))
    alone = Runner(tmp_path / GRAPH_FILE, io=io, kv=kv, capacity=32).forward(np.array([[5]]))
    np.testing.assert_array_equal(together[:1], alone)


@pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
def test_a_piece_that_nobody_wants_logits_of_is_read(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    io, kv = save_w8a8(exported("llama"), tmp_path)
    assert write_native(tmp_path / GRAPH_FILE, tmp_path / NATIVE_FILE) is None
    own_io, own_kv = native_form(io, kv)
    variant = Variant(
        name="v", device="cpu", scheme="w8a8", graph=NATIVE_FILE, io=own_io, kv=own_kv,
        requires=(native.REQUIREMENT,),
    )  # fmt: skip
    source = Source(
        graph=tmp_path / NATIVE_FILE, variant=variant, vocab_size=VOCABULARY, slots=1,
        capacity=POSITIONS, threads=1,
    )  # fmt: skip
    runner = open_executor(source)
    prompt = Sequence(prompt_ids=tuple(range(3, 43)), limits=Limits(max_tokens=1), submitted_s=0.0)
    first, last = Chunk(prompt, 0, 0, 20), Chunk(prompt, 0, 20, 40)
    assert runner.run(StepPlan((), (first,), ())).array.shape == (0, VOCABULARY)
    pieces = runner.run(StepPlan((), (last,), ())).array.copy()
    whole = runner.run(StepPlan((), (Chunk(prompt, 0, 0, 40),), ())).array
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_moments_are_those_of_the_tokens_read(exported: Callable[[str], Exported]) -> None:
    folder, io, kv = exported("llama")
    graph = Graph.load(folder / GRAPH_FILE)
    source = next(projections(graph)).source
    calibration = Calibration(passages=[[7]], io=io, kv=kv)
    moments = second_moments(graph, [source], calibration)[source]
    assert moments.shape == (64, 64)
    assert np.linalg.matrix_rank(moments) == 1  # of one token
    gain = graph.weights[graph.producers()[source].input[1]]
    unit = moments / np.outer(gain, gain)
    assert np.trace(unit) == pytest.approx(64, rel=1e-3)  # a norm's row has mean square 1


def test_rounding_makes_up_for_errors_and_never_saturates() -> None:
    random = np.random.default_rng(3)
    inputs = random.standard_normal((400, 8)) @ random.standard_normal((8, 64))
    weight = random.standard_normal((64, 40)).astype(np.float32)
    weight[:2, 0] = 9.0, 8.5
    moments = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    made = round_columns(weight, moments)
    size = np.abs(made.q.astype(int))
    assert size.max() <= LEVELS
    assert (size[0::2] + size[1::2]).max() <= PAIR_LEVELS
    nearest = np.rint(weight / made.scales) * made.scales
    error = np.linalg.norm(inputs @ (made.q * made.scales - weight))
    assert error < 0.5 * np.linalg.norm(inputs @ (nearest - weight))


def test_the_bound_on_neighbours_is_what_this_processor_adds_exactly() -> None:
    from onnx import TensorProto, helper, numpy_helper

    q = np.tile(np.array([[127], [1], [64], [64], [-1], [-127]], np.int8), (8, 16))
    nodes = [helper.make_node("MatMulInteger", ["x", "q", "zero"], ["y"])]
    constants = [numpy_helper.from_array(q, "q"), numpy_helper.from_array(np.uint8(128), "zero")]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, len(q)])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.full((3, len(q)), 255, np.uint8)
    rows[1], rows[2, ::2] = 0, 1
    wanted = (rows.astype(np.int64) - 128) @ q.astype(np.int64)
    np.testing.assert_array_equal(session.run(None, {"x": rows})[0], wanted)
