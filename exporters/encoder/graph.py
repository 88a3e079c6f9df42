"""The fp32 graph of an encoder, built of its weights: token ids in, a vector for each text out.

Products, sums and norms work on rows [N, H], one for each token, N being texts x tokens; attention
alone sees texts. Texts are padded at the end. What stands in padded places is attended by nobody
and pooled nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from exporters.graph.building import Builder, Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.encoder import EncoderShape
from exporters.model.encoder_families import NORM, POSITIONS, TYPES, WORDS, LayerNames
from nsedge.bundle.encoder import EncoderIo
from nsedge.bundle.headed import SequenceClassification

IO = EncoderIo()
"""All texts are of the first kind of segment, so its row lies in the table of positions."""
KINDS = "token_type_ids"
LENGTHS = "lengths"
"""Tokens of each text, int32 [B]: the keys that attention attends to."""
TEXTS = "texts_{}"
"""The shape [B, T, 1 or 3 times H]."""


def build_graph(shape: EncoderShape, weights: Mapping[str, Floats]) -> Graph:
    """The graph of `weights`, by their names in the model without a head.

    Raises:
        KeyError: a weight is missing.
    """
    builder = EncoderBuilder(shape, weights)
    builder.pooled(builder.body())
    return builder.graph()


class EncoderBuilder(Builder):
    """Adds the nodes of an encoder, part by part."""

    def __init__(self, shape: EncoderShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(weights, epsilon=shape.epsilon)
        self._shape = shape
        self._distances: list[str] = []
        self._has_kinds = has_kinds(shape, weights)

    def body(self) -> str:
        """What the last layer gives: [N, H]."""
        stream = self.embedded()
        for layer in range(self._shape.layers):
            stream = self.layer(self._shape.family.layer.format(layer), stream)
        return stream

    def embedded(self) -> str:
        """Words, positions and kinds of segments, summed and normed: [N, H]."""
        shape, source = self._shape, self._source
        positions = source[POSITIONS][shape.first_position :][: shape.context_length]
        if TYPES in source and not self._has_kinds:
            positions = positions + source[TYPES][:1]
        words = self._add("Gather", "words", [self._keep(WORDS, source[WORDS]), IO.input_ids])
        length = self._add("Shape", "length", [IO.input_ids], start=1, end=2)
        table = self._keep(POSITIONS, np.ascontiguousarray(positions))
        start, axis = self._keep("start", np.array([0])), self._keep("rows", np.array([0]))
        places = self._add("Slice", "positions", [table, start, length, axis])
        mask = self._add("Cast", "mask", [IO.attention_mask], to=TensorProto.INT32)
        tokens = self._keep("tokens", np.array([1]))
        self._add("ReduceSum", "lengths", [mask, tokens], LENGTHS, keepdims=0)
        texts = self._add("Shape", "texts", [IO.input_ids])
        for factor in (1, 3):
            width = self._keep(f"width_{factor}", np.array([factor * shape.hidden]))
            self._add("Concat", f"texts_{factor}", [texts, width], TEXTS.format(factor), axis=0)
        summed = self._add("Add", "embedded", [words, places])
        if self._has_kinds:
            table = self._keep(TYPES, source[TYPES])
            kinds = self._add("Gather", "kinds", [table, KINDS])
            summed = self._add("Add", "embedded+kinds", [summed, kinds])
        normed = self._normed(NORM, self._flat("flat", summed, shape.embedding))
        self._distances = self._distance_bias(length)
        if shape.family.projection is None or f"{shape.family.projection}.weight" not in source:
            return normed
        return self._linear(shape.family.projection, normed)

    def layer(self, name: str, stream: str) -> str:
        """One layer: [N, H] to the same."""
        names = known(self._shape.family.names)
        parts = [f"{name}.{part}" for part in (names.query, names.key, names.value)]
        weight = np.concatenate([self._source[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._source[f"{part}.bias"] for part in parts])
        packed = self._projected(f"{name}/qkv", stream, weight, bias)
        packed = self._add("Reshape", f"{name}/texts", [packed, TEXTS.format(3)])
        rows = [f"{name}/{part}" for part in "qkv"]
        self._split(f"{name}/split", packed, [self._shape.hidden] * 3, rows)
        attended = self._add(
            "MultiHeadAttention",
            f"{name}/attention",
            [*rows, "", LENGTHS, *self._distances],
            domain=MICROSOFT,
            num_heads=self._shape.heads,
        )
        attended = self._flat(f"{name}/rows", attended, self._shape.hidden)
        written = self._linear(f"{name}.{names.attended}", attended)
        stream = self._joined(f"{name}.{names.attended_norm}", written, stream)
        inner = self._linear(f"{name}.{names.inner}", stream)
        inner = self._add("Gelu", f"{name}/gelu", [inner], domain=MICROSOFT)
        written = self._linear(f"{name}.{names.outer}", inner)
        return self._joined(f"{name}.{names.outer_norm}", written, stream)

    def pooled(self, stream: str) -> None:
        """One vector [B, H] of a text's tokens, and of length 1 where that is wanted."""
        ways = {"mean": self._mean, "cls": self._first, "last": self._last}
        stream = self._add("Reshape", "states", [stream, TEXTS.format(1)])
        vectors = ways[self._shape.pooling](stream)
        if self._shape.normalised:
            self._add("LpNormalization", "normalised", [vectors], IO.embedding, axis=-1, p=2)
        else:
            self._add("Identity", "vectors", [vectors], IO.embedding)

    def graph(self) -> Graph:
        """All of it."""
        texts, vectors = ["texts", "tokens"], ["texts", self._shape.hidden]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, texts)
            for name in (IO.input_ids, IO.attention_mask)
        ]
        output = helper.make_tensor_value_info(IO.embedding, TensorProto.FLOAT, vectors)
        return self._built(inputs, [output])

    def _mean(self, stream: str) -> str:
        mask = self._add("Cast", "real", [IO.attention_mask], to=TensorProto.FLOAT)
        axis = self._keep("tokens", np.array([1]))
        rows = self._add("Unsqueeze", "real/rows", [mask, axis])
        sums = self._add("Squeeze", "sums", [self._add("MatMul", "sum", [rows, stream]), axis])
        if self._shape.normalised:  # a factor is of no account
            return sums
        count = self._add("ReduceSum", "count", [mask, axis], keepdims=1)
        return self._add("Div", "mean", [sums, count])

    def _first(self, stream: str) -> str:
        return self._add("Gather", "first", [stream, self._keep("cls", np.array(0))], axis=1)

    def _last(self, stream: str) -> str:
        """The rows [B, 1] one less than the lengths."""
        lengths = self._add("Cast", "lengths/64", [LENGTHS], to=TensorProto.INT64)
        at = self._add("Sub", "last/at", [lengths, self._keep("one", np.array([1]))])
        rows = self._add("Unsqueeze", "last/row", [at, self._keep("tokens", np.array([1]))])
        return self._add("GatherND", "last", [stream, rows], batch_dims=1)

    def _joined(self, name: str, value: str, stream: str) -> str:
        """The norm of `value` + `stream`.

        Over rows ONNX Runtime leaves the two nodes as they are. With three axes it makes
        SkipLayerNormalization of them, which is slower.
        """
        return self._normed(name, self._add("Add", f"{name}/sum", [value, stream]))

    def _distance_bias(self, length: str) -> list[str]:
        """What attention adds by the distance of two tokens, [1, heads, T, T]; nothing in most
        families."""
        name = self._shape.family.distances
        if name is None:
            return []
        table = self._keep(name, distance_table(self._source[name], self._shape.context_length))
        ends = self._add("Concat", "distances/ends", [length, length], axis=0)
        start = self._keep("distances/start", np.array([0, 0]))
        axes = self._keep("distances/axes", np.array([2, 3]))
        return [self._add("Slice", "distances", [table, start, ends, axes])]

    def _flat(self, name: str, value: str, width: int) -> str:
        """[B, T, width] as rows [N, width]."""
        rows = self._keep(f"rows_of_{width}", np.array([-1, width]))
        return self._add("Reshape", name, [value, rows])


def has_kinds(shape: EncoderShape, weights: Mapping[str, Floats]) -> bool:
    """Whether the graph is told of which kind each token's segment is: where it may read two texts,
    and tells them apart."""
    pairs = isinstance(shape.head, SequenceClassification)
    return pairs and TYPES in weights and len(weights[TYPES]) > 1


def known(names: LayerNames | None) -> LayerNames:
    """The names of a family whose graph is built.

    Raises:
        ValueError: it is traced.
    """
    if names is None:
        raise ValueError("a traced family has no names of layers")
    return names


def distance_table(bias: Floats, length: int, *, farthest: int = 128) -> Floats:
    """What T5's buckets of distances give: from a table [buckets, heads], [1, heads, length,
    length], by query and key. Half of the buckets are for keys behind the query; of either half,
    one half is for distances of their own, the rest grow up to `farthest`."""
    half = len(bias) // 2
    own = half // 2
    places = np.arange(length)
    ahead = places[:, None] - places[None, :]
    distances = np.abs(ahead)
    ratio = np.log(np.maximum(distances, 1).astype(np.float32) / np.float32(own))
    grown = own + (ratio / np.float32(np.log(farthest / own)) * np.float32(half - own)).astype(int)
    buckets = np.where(distances < own, distances, np.minimum(grown, half - 1))
    buckets = buckets + np.where(ahead < 0, half, 0)
    return np.ascontiguousarray(bias[buckets].transpose(2, 0, 1)[None], np.float32)
