"""A decoder of two layers of attention with random weights, made in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporters.graph.graph import MICROSOFT, Graph
from nsedge.bundle.causal_lm import GraphIo, KvLayout

VOCABULARY = 50
HEADS, KV_HEADS, WIDTH = 4, 2, 16
LAYERS = 2
POSITIONS = 128
LAYOUT = KvLayout(layers=LAYERS, heads=KV_HEADS, head_dim=WIDTH)
IO = GraphIo()


def tiny_graph() -> Graph:
    """The graph in float32, its names `IO`, its cache `LAYOUT`."""
    random = np.random.default_rng(7)

    def weight(*shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    packed = (HEADS + 2 * KV_HEADS) * WIDTH
    angles = np.arange(POSITIONS)[:, None] / 1e4 ** (np.arange(0, WIDTH, 2) / WIDTH)
    weights: dict[str, NDArray[Any]] = {
        "table": weight(VOCABULARY, packed) * np.float32(np.sqrt(VOCABULARY)),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
        "head": weight(HEADS * WIDTH, VOCABULARY),
    }
    nodes = [helper.make_node("Gather", ["table", IO.input_ids], ["x0"], name="embed", axis=0)]
    for layer in range(LAYERS):
        nodes.append(_attention(layer))
        if layer + 1 < LAYERS:
            weights[f"mix{layer}"] = weight(HEADS * WIDTH, packed)
            inputs, name = [f"attended{layer}", f"mix{layer}"], f"mix_{layer}"
            nodes.append(helper.make_node("MatMul", inputs, [f"x{layer + 1}"], name=name))
    last = f"attended{LAYERS - 1}"
    nodes.append(
        helper.make_node("Gather", [last, IO.kept_positions], ["kept"], name="keep", axis=1)
    )
    nodes.append(helper.make_node("MatMul", ["kept", "head"], [IO.logits], name="project"))
    return Graph(nodes=nodes, inputs=_inputs(), outputs=_outputs(), weights=weights)


def save(graph: Graph, folder: Path) -> Path:
    """Write the graph; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    graph.save(path)
    return path


def _attention(layer: int) -> Any:
    past = [name.format(layer=layer) for name in (IO.past_key, IO.past_value)]
    present = [name.format(layer=layer) for name in (IO.present_key, IO.present_value)]
    ends = [IO.seqlens_k, IO.total_sequence_length, "cos", "sin"]
    return helper.make_node(
        "GroupQueryAttention",
        [f"x{layer}", "", "", *past, *ends],
        [f"attended{layer}", *present],
        name=f"attention{layer}",
        domain=MICROSOFT,
        num_heads=HEADS,
        kv_num_heads=KV_HEADS,
        do_rotary=1,
    )


def _caches(*names: str) -> list[Any]:
    shape = ["batch", KV_HEADS, "capacity", WIDTH]
    return [
        helper.make_tensor_value_info(name.format(layer=layer), TensorProto.FLOAT, shape)
        for layer in range(LAYERS)
        for name in names
    ]


def _inputs() -> list[Any]:
    value = helper.make_tensor_value_info
    return [
        value(IO.input_ids, TensorProto.INT64, ["batch", "queries"]),
        value(IO.seqlens_k, TensorProto.INT32, ["batch"]),
        value(IO.total_sequence_length, TensorProto.INT32, []),
        value(IO.kept_positions, TensorProto.INT64, ["kept"]),
        *_caches(IO.past_key, IO.past_value),
    ]


def _outputs() -> list[Any]:
    logits = helper.make_tensor_value_info(
        IO.logits, TensorProto.FLOAT, ["batch", "kept", VOCABULARY]
    )
    return [logits, *_caches(IO.present_key, IO.present_value)]
