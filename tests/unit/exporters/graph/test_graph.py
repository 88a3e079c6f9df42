"""Clean-up passes keep what a graph computes; files are aligned and map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from exporters.graph.graph import MARK_DOMAIN, MICROSOFT, RMS_NORM_MARK, Graph
from exporters.graph.pack import pack_projections
from exporters.trace.clean import join_silu, join_skip_norms, keep_rows_early, name_norms

F32 = NDArray[np.float32]
WIDTH = 16


def random(*shape: int) -> F32:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def node(kind: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    domain = {RMS_NORM_MARK: MARK_DOMAIN, "QuickGelu": MICROSOFT}.get(kind, "")
    return helper.make_node(
        kind, inputs.split(), output.split(), name=output, domain=domain, **attributes
    )


def graph_of(*nodes: NodeProto, out: str, **weights: F32) -> Graph:
    value = helper.make_tensor_value_info
    return Graph(
        nodes=list(nodes),
        inputs=[
            value("x", TensorProto.FLOAT, ["batch", "queries", WIDTH]),
            value("keep", TensorProto.INT64, ["kept"]),
        ],
        outputs=[value(name, TensorProto.FLOAT, None) for name in out.split()],
        weights=dict(weights),
    )


def run(graph: Graph, folder: Path, x: F32, keep: list[int]) -> list[F32]:
    folder.mkdir(exist_ok=True)
    name_norms(graph)
    graph.prune()
    graph.save(folder / "model.onnx")
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    feeds = {"x": x, "keep": np.array(keep, np.int64)}
    return list(session.run(None, {k: v for k, v in feeds.items() if k in wanted}))


def kinds(graph: Graph) -> list[str]:
    return [n.op_type for n in graph.nodes]


def norm(x: F32, gain: F32) -> F32:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain


def test_silu_becomes_one_node(tmp_path: Path) -> None:
    graph = graph_of(node("Sigmoid", "x", "gate"), node("Mul", "gate x", "y"), out="y")
    join_silu(graph)
    x = random(1, 3, WIDTH)
    (y,) = run(graph, tmp_path, x, [])
    assert kinds(graph) == ["QuickGelu"]
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=1e-5, atol=1e-6)


def test_a_gate_of_something_else_stays(tmp_path: Path) -> None:
    graph = graph_of(
        node("Sigmoid", "x", "gate"),
        node("Mul", "x x", "square"),
        node("Mul", "gate square", "y"),
        out="y",
    )
    join_silu(graph)
    assert kinds(graph) == ["Sigmoid", "Mul", "Mul"]


def test_sum_and_norm_become_one_node_and_the_sum_is_still_there(tmp_path: Path) -> None:
    gain = random(WIDTH)
    graph = graph_of(
        node("Mul", "x x", "square"),
        node("Add", "x square", "sum"),
        node(RMS_NORM_MARK, "sum gain", "normed", epsilon=1e-5),
        node("Add", "sum normed", "y"),
        out="y",
        gain=gain,
    )
    join_skip_norms(graph)
    x = random(2, 3, WIDTH)
    (y,) = run(graph, tmp_path, x, [])
    assert "SkipSimplifiedLayerNormalization" in kinds(graph)
    assert kinds(graph).count("Add") == 1
    np.testing.assert_allclose(y, x + x**2 + norm(x + x**2, gain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("biased", [(), ("up",), ("gate", "up")])
def test_projections_of_one_value_are_packed_with_their_biases(
    tmp_path: Path, biased: tuple[str, ...]
) -> None:
    weights = {"wg": random(WIDTH, 8), "wu": random(WIDTH, 24)}
    biases = {"bg": random(8), "bu": random(24)}
    nodes = [node("MatMul", "x wg", "mg"), node("MatMul", "x wu", "mu")]
    gate, up = "mg", "mu"
    if "gate" in biased:
        nodes.append(node("Add", "mg bg", "gate"))
        gate = "gate"
    if "up" in biased:
        nodes.append(node("Add", "bu mu", "up"))
        up = "up"
    nodes.append(node("Concat", f"{up} {gate}", "y", axis=-1))
    graph = graph_of(*nodes, out="y", **weights, **biases)
    pack_projections(graph)
    x = random(2, 3, WIDTH)
    (y,) = run(graph, tmp_path, x, [])
    assert kinds(graph) == ["MatMul", *(["Add"] if biased else []), "Split", "Concat"]
    wanted_gate = x @ weights["wg"] + (biases["bg"] if "gate" in biased else 0)
    wanted_up = x @ weights["wu"] + (biases["bu"] if "up" in biased else 0)
    np.testing.assert_allclose(
        y, np.concatenate([wanted_up, wanted_gate], -1), rtol=1e-4, atol=1e-5
    )


def test_wanted_rows_are_chosen_before_the_work(tmp_path: Path) -> None:
    gain, weight = random(WIDTH), random(WIDTH, WIDTH)
    graph = graph_of(
        node("Softmax", "x", "mixed", axis=1),  # over positions, as attention is
        node("MatMul", "mixed weight", "projected"),
        node("Add", "x projected", "sum"),
        node(RMS_NORM_MARK, "sum gain", "normed", epsilon=1e-5),
        node("Gather", "normed keep", "y", axis=1),
        out="y",
        gain=gain,
        weight=weight,
    )
    keep_rows_early(graph)
    graph.prune()
    x, keep = random(2, 5, WIDTH), [4, 1]
    assert kinds(graph).index("MatMul") > kinds(graph).index("Gather")
    assert kinds(graph).count("Gather") == 2
    (y,) = run(graph, tmp_path, x, keep)
    mixed = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(y, norm(x + mixed @ weight, gain)[:, keep], rtol=1e-4, atol=1e-5)


def test_rows_that_something_else_reads_are_left_alone(tmp_path: Path) -> None:
    graph = graph_of(
        node("Mul", "x x", "square"),
        node("Gather", "square keep", "y", axis=1),
        node("ReduceSum", "square", "all", keepdims=0),
        out="y all",
    )
    keep_rows_early(graph)
    assert kinds(graph) == ["Mul", "Gather", "ReduceSum"]


def test_nodes_in_any_order_are_put_right_and_dead_ones_go() -> None:
    graph = graph_of(
        node("Mul", "b x", "y"),
        node("Add", "x unused", "dead"),
        node("Mul", "x x", "b"),
        out="y",
        unused=random(WIDTH),
    )
    graph.prune()
    assert [n.output[0] for n in graph.nodes] == ["b", "y"]
    assert graph.weights == {}


def test_weights_lie_aligned_in_one_file_and_come_back_mapped(tmp_path: Path) -> None:
    weights = {"small": random(WIDTH), "odd": random(300), "big": random(WIDTH, 100)}
    nodes = [
        node("Add", "x small", "a"),
        node("MatMul", "a big", "y"),
        node("Add", "odd odd", "z"),
    ]
    graph = graph_of(*nodes, out="y z", **weights)
    graph.save(tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    places = {i.name: ExternalDataInfo(i) for i in model.graph.initializer if uses_external_data(i)}
    assert set(places) == {"odd", "big"}
    assert places["big"].offset % 4096 == 0
    assert places["odd"].offset % 64 == 0
    loaded = Graph.load(tmp_path / "model.onnx")
    assert isinstance(loaded.weights["big"], np.memmap)
    for name, array in weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
