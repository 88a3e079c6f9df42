"""The fp32 graph of Whisper's decoder, around GroupQueryAttention and an encoder's memory.

Whisper has no rotary embedding: the operator turns by nothing, so that the graph has the form that
all decoders have here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from exporters.graph.builder import Builder, Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.speech import SpeechShape
from exporters.speech.encoder_graph import EPSILON
from exporters.speech.naming import DECODER as IO

PREFIX = "model.decoder"
TABLE = f"{PREFIX}.embed_tokens.weight"
UNTURNED = 8
"""Columns of the table of no rotation; the operator wants a multiple of 8."""


def build_decoder(shape: SpeechShape, weights: Mapping[str, Floats]) -> Graph:
    """The graph of `weights`, by their names in the model.

    Raises:
        KeyError: a weight is missing.
    """
    builder = _Builder(shape, weights)
    stream = builder.embedded()
    for layer in range(shape.decoder_layers):
        stream = builder.layer(layer, f"{PREFIX}.layers.{layer}", stream)
    builder.told(stream)
    return builder.graph()


class _Builder(Builder):
    def __init__(self, shape: SpeechShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(weights, epsilon=EPSILON)
        self._shape = shape
        self._scale = float(shape.head_size**-0.5)
        self._presents: list[str] = []

    def embedded(self) -> str:
        """Words and positions, summed: [B, Q, D]."""
        words = self.add("Gather", "words", [self.vector(TABLE), IO.input_ids])
        table = self.vector(f"{PREFIX}.embed_positions.weight")
        last = self.keep("last_axis", np.array([-1]))
        places = self.add("Unsqueeze", "places", [str(IO.position_ids), last])
        positions = self.add("GatherND", "positions", [table, places])
        turns = (self._shape.positions, UNTURNED)
        self.keep("cos", np.ones(turns, np.float32))
        self.keep("sin", np.zeros(turns, np.float32))
        return self.add("Add", "embedded", [words, positions])

    def layer(self, layer: int, name: str, stream: str) -> str:
        """One layer: [B, Q, D] to the same."""
        rows = self.normed(f"{name}.self_attn_layer_norm", stream)
        attended = self._remembered(layer, name, rows)
        written = self.linear(f"{name}.self_attn.out_proj", attended)
        stream = self.add("Add", f"{name}/attended", [stream, written])
        rows = self.normed(f"{name}.encoder_attn_layer_norm", stream)
        query = self.linear(f"{name}.encoder_attn.q_proj", rows)
        written = self.linear(f"{name}.encoder_attn.out_proj", self._heard(layer, name, query))
        stream = self.add("Add", f"{name}/heard", [stream, written])
        rows = self.normed(f"{name}.final_layer_norm", stream)
        inner = self.linear(f"{name}.fc1", rows)
        inner = self.add("Gelu", f"{name}/gelu", [inner], domain=MICROSOFT)
        written = self.linear(f"{name}.fc2", inner)
        return self.add("Add", f"{name}/sum", [stream, written])

    def told(self, stream: str) -> None:
        """Logits of the kept positions [B, K, V]."""
        kept = self.add("Gather", "kept", [stream, IO.kept_positions], axis=1)
        rows = self.normed(f"{PREFIX}.layer_norm", kept)
        self.add("FusedMatMul", "head", [rows, TABLE], IO.logits, domain=MICROSOFT, transB=1)

    def graph(self) -> Graph:
        """All of it."""
        logits = ["batch", "kept", self._shape.vocabulary]
        return Graph(
            nodes=self.nodes,
            inputs=self._inputs(),
            outputs=[
                helper.make_tensor_value_info(IO.logits, TensorProto.FLOAT, logits),
                *self._caches("batch", "capacity", IO.present_key, IO.present_value),
            ],
            weights=self.weights,
        )

    def _remembered(self, layer: int, name: str, rows: str) -> str:
        """Attention to the tokens before."""
        parts = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        packed = self.joint(f"{name}.self_attn.qkv", rows, parts)
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
                num_heads=self._shape.decoder_heads,
                kv_num_heads=self._shape.decoder_heads,
                scale=self._scale,
                do_rotary=1,
                rotary_interleaved=0,
            )
        )
        return made

    def _heard(self, layer: int, name: str, query: str) -> str:
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
            num_heads=self._shape.decoder_heads,
            scale=self._scale,
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
            *self._caches("memories", self._shape.frames, memory.key, memory.value),
        ]

    def _caches(self, rows: str, length: str | int, *names: str) -> list[Any]:
        size = [rows, self._shape.decoder_heads, length, self._shape.head_size]
        return [
            helper.make_tensor_value_info(name.format(layer=layer), TensorProto.FLOAT, size)
            for layer in range(self._shape.decoder_layers)
            for name in names
        ]
