"""The key and value cache in int8: attention over either of two caches.

Attention over int8 is fast where one position is asked for, and several times slower than over
float32 where a prompt is read. So a graph holds both: prompts are read with a float32 cache of one
row, which the executor rounds into the int8 one.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from exporters.graph.graph import Graph
from exporters.graph.pack import ATTENTION
from nsedge.bundle.causal_lm import GraphIo, KvLayout, PromptIo

SCALES_FILE = "kv_scales.npy"
SCALE_INPUT = 12
"""Where attention takes the scale of the keys; that of the values follows."""


def cache_in_int8(
    graph: Graph, *, io: GraphIo, kv: KvLayout, scales: NDArray[np.float32]
) -> tuple[GraphIo, KvLayout]:
    """Let every attention of `graph` read an int8 cache, or a float32 one where it is told to.

    The last change to a graph: other passes do not look into the branches that this makes.
    """
    prompt = PromptIo()
    caches = {io.past_key.format(layer=layer): layer for layer in range(kv.layers)}
    for node in [n for n in graph.nodes if n.op_type == ATTENTION]:
        layer = caches[node.input[3]]
        names = [
            graph.constant(f"{node.name}/{kind}_scale", np.ascontiguousarray(scale[None, :, None]))
            for kind, scale in zip(("key", "value"), scales[layer], strict=True)
        ]
        graph.replace(node, _either(node, _names(io, layer), _names(prompt, layer), prompt, names))
    _declare(graph, io, prompt, kv)
    return msgspec.structs.replace(io, prompt=prompt), msgspec.structs.replace(
        kv, dtype="int8", scales=SCALES_FILE
    )


@dataclass(frozen=True)
class Cache:
    """A layer's keys and values before and after an attention."""

    past: tuple[str, str]
    present: tuple[str, str]


def _names(io: GraphIo | PromptIo, layer: int) -> Cache:
    return Cache(
        (io.past_key.format(layer=layer), io.past_value.format(layer=layer)),
        (io.present_key.format(layer=layer), io.present_value.format(layer=layer)),
    )


def _either(
    node: NodeProto, rows: Cache, own: Cache, prompt: PromptIo, scales: list[str]
) -> NodeProto:
    """A choice between attention over the prompt's cache and over the int8 one."""
    return helper.make_node(
        "If",
        [prompt.flag],
        [node.output[0], *rows.present, *own.present],
        name=f"{node.name}/either",
        then_branch=_branch(node, "prompt", reads=own, passes=rows, scales=None),
        else_branch=_branch(node, "rows", reads=rows, passes=own, scales=scales),
    )


def _branch(
    node: NodeProto, name: str, *, reads: Cache, passes: Cache, scales: list[str] | None
) -> GraphProto:
    """Attention over the cache `reads`, in int8 where there are scales.

    The other cache goes through: its past and its present are the same memory, so that nothing is
    copied. The output, the int8 cache and the float32 one come out, in this order.
    """
    output, *extended = (f"{node.name}/{name}/{part}" for part in ("output", "key", "value"))
    passed = [f"{node.name}/{name}/passed_{part}" for part in ("key", "value")]
    attention = NodeProto()
    attention.CopyFrom(node)
    attention.name = f"{node.name}/{name}"
    attention.input[3], attention.input[4] = reads.past
    attention.output[:] = [output, *extended]
    if scales is not None:
        _read_int8(attention, scales)
    nodes = [attention]
    for source, target in zip(passes.past, passed, strict=True):
        nodes.append(helper.make_node("Identity", [source], [target], name=target))
    rounded, exact = (passed, extended) if scales is None else (extended, passed)
    outputs = [
        _value(output, TensorProto.FLOAT),
        *(_value(cache, TensorProto.INT8) for cache in rounded),
        *(_value(cache, TensorProto.FLOAT) for cache in exact),
    ]
    return helper.make_graph(nodes, name, [], outputs)


def _read_int8(attention: NodeProto, scales: list[str]) -> None:
    attention.input.extend([""] * (SCALE_INPUT - len(attention.input)))
    attention.input.extend(scales)
    attention.attribute.extend(
        [
            helper.make_attribute("k_quant_type", "PER_CHANNEL"),
            helper.make_attribute("v_quant_type", "PER_CHANNEL"),
            helper.make_attribute("kv_cache_bit_width", 8),
        ]
    )


def _declare(graph: Graph, io: GraphIo, prompt: PromptIo, kv: KvLayout) -> None:
    """The flag and both caches among the graph's inputs and outputs."""
    layers = range(kv.layers)
    rows = [_names(io, layer) for layer in layers]
    cached = {name for cache in rows for name in (*cache.past, *cache.present)}
    for value in (*graph.inputs, *graph.outputs):
        if value.name in cached:
            value.type.tensor_type.elem_type = TensorProto.INT8
    shape: list[str | int] = [1, kv.heads, "prompt_capacity", kv.head_dim]
    graph.inputs.append(_value(prompt.flag, TensorProto.BOOL, []))
    for cache in (_names(prompt, layer) for layer in layers):
        graph.inputs.extend(_value(name, TensorProto.FLOAT, shape) for name in cache.past)
        graph.outputs.extend(_value(name, TensorProto.FLOAT, shape) for name in cache.present)


def _value(name: str, kind: int, shape: list[str | int] | None = None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
