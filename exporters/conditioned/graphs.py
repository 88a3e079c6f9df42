"""What the fp32 graphs have in common: a decoder around GroupQueryAttention and a memory, and an
encoder that gives one.

The decoders here have learnt positions and no rotary embedding: the operator turns by nothing, so
that the graph has the form that all decoders have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from exporters.conditioned.naming import DECODER as IO
from exporters.conditioned.naming import MEMORY
from exporters.graph.builder import Builder, Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.conditioned import DecoderShape

UNTURNED = 8
"""Columns of the table of no rotation; the operator wants a multiple of 8."""


class DecoderBuilder(Builder):
    """A decoder; a kind of model adds what its layers are made of."""

    def __init__(
        self, shape: DecoderShape, weights: Mapping[str, Floats], *, epsilon: float
    ) -> None:
        super().__init__(weights, epsilon=epsilon)
        self.shape = shape
        self._scale = float(shape.head_size**-0.5)

    def embedded(self, words: str, positions: str) -> str:
        """Rows of two tables, of words and of positions, summed: [B, Q, D]."""
        found = self.add("Gather", "words", [self.vector(words), IO.input_ids])
        last = self.keep("last_axis", np.array([-1]))
        places = self.add("Unsqueeze", "places", [str(IO.position_ids), last])
        placed = self.add("GatherND", "positions", [self.vector(positions), places])
        turns = (self.shape.positions, UNTURNED)
        self.keep("cos", np.ones(turns, np.float32))
        self.keep("sin", np.zeros(turns, np.float32))
        return self.add("Add", "embedded", [found, placed])

    def remembered(self, layer: int, name: str, packed: str) -> str:
        """Attention to the tokens before, of packed queries, keys and values."""
        names = [one.format(layer=layer) for one in (IO.past_key, IO.past_value)]
        presents = [one.format(layer=layer) for one in (IO.present_key, IO.present_value)]
        ends = [IO.seqlens_k, IO.total_sequence_length, "cos", "sin"]
        made = f"{name}/remembered"
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [packed, "", "", *names, *ends],
                [made, *presents],
                name=f"{name}/attention",
                domain=MICROSOFT,
                num_heads=self.shape.heads,
                kv_num_heads=self.shape.heads,
                scale=self._scale,
                do_rotary=1,
                rotary_interleaved=0,
            )
        )
        return made

    def about(self, layer: int, name: str, query: str) -> str:
        """Attention to the memory."""
        kept = [
            self.add("Gather", f"{name}/{part}", [one.format(layer=layer), str(IO.memory.rows)])
            for part, one in (("keys", IO.memory.key), ("values", IO.memory.value))
        ]
        return self.add(
            "MultiHeadAttention",
            f"{name}/cross_attention",
            [query, *kept],
            domain=MICROSOFT,
            num_heads=self.shape.heads,
            scale=self._scale,
        )

    def told(self, stream: str, *, norm: str, table: str) -> None:
        """Logits of the kept positions [B, K, V]."""
        kept = self.add("Gather", "kept", [stream, IO.kept_positions], axis=1)
        rows = self.normed(norm, kept)
        inputs = [rows, self.vector(table)]
        self.add("FusedMatMul", "head", inputs, IO.logits, domain=MICROSOFT, transB=1)

    def graph(self) -> Graph:
        """All of it."""
        logits = ["batch", "kept", self.shape.vocabulary]
        return Graph(
            nodes=self.nodes,
            inputs=self._inputs(),
            outputs=[
                helper.make_tensor_value_info(IO.logits, TensorProto.FLOAT, logits),
                *self._caches("batch", "capacity", IO.present_key, IO.present_value),
            ],
            weights=self.weights,
        )

    def _inputs(self) -> list[Any]:
        value, memory = helper.make_tensor_value_info, IO.memory
        return [
            value(IO.input_ids, TensorProto.INT64, ["batch", "queries"]),
            value(IO.seqlens_k, TensorProto.INT32, ["batch"]),
            value(IO.total_sequence_length, TensorProto.INT32, []),
            value(IO.kept_positions, TensorProto.INT64, ["kept"]),
            value(IO.position_ids, TensorProto.INT64, ["batch", "queries"]),
            value(memory.rows, TensorProto.INT64, ["batch"]),
            *self._caches("batch", "capacity", IO.past_key, IO.past_value),
            *self._caches("memories", self.shape.frames, memory.key, memory.value),
        ]

    def _caches(self, rows: str, length: str | int, *names: str) -> list[Any]:
        size = [rows, self.shape.heads, length, self.shape.head_size]
        return [
            helper.make_tensor_value_info(name.format(layer=layer), TensorProto.FLOAT, size)
            for layer in range(self.shape.layers)
            for name in names
        ]


class EncoderBuilder(Builder):
    """An encoder of one input at a time. Products, sums and norms work on rows [F, D], one for each
    frame; attention alone sees all of them."""

    def __init__(
        self, shape: DecoderShape, weights: Mapping[str, Floats], *, epsilon: float
    ) -> None:
        """`shape` is the decoder's."""
        super().__init__(weights, epsilon=epsilon)
        self.decoder = shape

    def attended(self, name: str, packed: str, *, width: int, heads: int) -> str:
        """Attention within the input, of packed queries, keys and values [F, 3 width]."""
        whole = self.reshape(f"{name}/window", packed, [1, -1, 3 * width])
        found = self.add(
            "MultiHeadAttention",
            f"{name}/attention",
            self.split(f"{name}/split", whole, [width] * 3),
            domain=MICROSOFT,
            num_heads=heads,
            scale=float((width // heads) ** -0.5),
        )
        return self.reshape(f"{name}/rows", found, [-1, width])

    def states(self, rows: str, name: str) -> None:
        """What is made of the input, as an output of that name."""
        self.reshape("states", rows, [1, self.decoder.frames, self.decoder.width], name)

    def memory(self, layer: int, rows: str, parts: list[str]) -> None:
        """Keys and values of the rows for a layer of the decoder, which `parts` make of them:
        [1, heads, F, D / heads]."""
        shape, name = self.decoder, f"memory.{layer}"
        packed = self.joint(name, rows, parts)
        packed = self.reshape(f"{name}/window", packed, [1, -1, 2 * shape.width])
        outputs = (MEMORY.present_key, MEMORY.present_value)
        for part, output in zip(
            self.split(f"{name}/split", packed, [shape.width] * 2), outputs, strict=True
        ):
            sizes = [1, -1, shape.heads, shape.head_size]
            heads = self.reshape(f"{part}/heads", part, sizes)
            made = output.format(layer=layer)
            self.add("Transpose", f"{part}/turned", [heads], made, perm=[0, 2, 1, 3])

    def graph(self, *, reads: str, size: list[int], states: str) -> Graph:
        """All of it; the input is called `reads`, float32 of this size."""
        shape, value = self.decoder, helper.make_tensor_value_info
        row = [1, shape.heads, shape.frames, shape.head_size]
        names = [
            name.format(layer=layer)
            for layer in range(shape.layers)
            for name in (MEMORY.present_key, MEMORY.present_value)
        ]
        return Graph(
            nodes=self.nodes,
            inputs=[value(reads, TensorProto.FLOAT, size)],
            outputs=[
                value(states, TensorProto.FLOAT, [1, shape.frames, shape.width]),
                *(value(name, TensorProto.FLOAT, row) for name in names),
            ],
            weights=self.weights,
        )
