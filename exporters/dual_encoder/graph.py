"""The two fp32 graphs of a dual encoder, built of its weights: token ids, or pixels, in, a vector
of length 1 for each out.

Products, sums and norms work on rows [N, H], one for each token or patch; attention alone sees
texts and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from exporters.graph.building import Builder, Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.activations import OPERATORS
from exporters.model.dual_encoder import DualShape, Tower
from nsedge.bundle.dual_encoder import ImageTowerIo, TextTowerIo

TEXT_IO = TextTowerIo()
IMAGE_IO = ImageTowerIo()
TEXT, IMAGE = "text_model", "vision_model"


def text_graph(shape: DualShape, weights: Mapping[str, Floats]) -> Graph:
    """The tower for texts, by the names that the whole model's weights have.

    Raises:
        KeyError: a weight is missing.
    """
    return _TextTower(shape, weights).graph()


def image_graph(shape: DualShape, weights: Mapping[str, Floats]) -> Graph:
    """The tower for pictures; raises as `text_graph` does."""
    return _ImageTower(shape, weights).graph()


class _Tower(Builder):
    """Layers with a norm before each half. `_groups` is the shape [B, T] of rows in their texts."""

    def __init__(self, tower: Tower, weights: Mapping[str, Floats]) -> None:
        super().__init__(weights, epsilon=tower.epsilon)
        self._tower = tower
        self._groups = ""

    def _layers(self, model: str, stream: str, *, is_causal: bool) -> str:
        for number in range(self._tower.layers):
            name = f"{model}.encoder.layers.{number}"
            attended = self._attended(name, self._normed(f"{name}.layer_norm1", stream), is_causal)
            stream = self._add("Add", f"{name}/attended", [stream, attended])
            inner = self._inner(f"{name}.mlp", self._normed(f"{name}.layer_norm2", stream))
            stream = self._add("Add", f"{name}/stream", [stream, inner])
        return stream

    def _attended(self, name: str, rows: str, is_causal: bool) -> str:
        parts = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        weight = np.concatenate([self._source[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._source[f"{part}.bias"] for part in parts])
        packed = self._grouped(f"{name}/qkv", self._projected(f"{name}.qkv", rows, weight, bias), 3)
        split = [f"{name}/{part}" for part in "qkv"]
        self._split(f"{name}/split", packed, [self._tower.hidden] * 3, split)
        found = self._attention(name, split, is_causal=is_causal)
        return self._linear(f"{name}.self_attn.out_proj", self._flat(f"{name}/rows", found))

    def _attention(self, name: str, parts: list[str], *, is_causal: bool = False) -> str:
        return self._add(
            "MultiHeadAttention",
            f"{name}/attention",
            parts,
            domain=MICROSOFT,
            num_heads=self._tower.heads,
            unidirectional=int(is_causal),
        )

    def _inner(self, name: str, rows: str) -> str:
        kind = OPERATORS[self._tower.activation]
        inner = self._linear(f"{name}.fc1", rows)
        active = self._add(kind, f"{name}/activation", [inner], domain=MICROSOFT)
        return self._linear(f"{name}.fc2", active)

    def _grouped(self, name: str, rows: str, times: int = 1) -> str:
        """Rows [N, times x H] as [B, T, times x H]."""
        width = self._keep(f"width_{times}", np.array([times * self._tower.hidden]))
        wanted = self._add("Concat", f"{name}/shape", [self._groups, width], axis=0)
        return self._add("Reshape", f"{name}/grouped", [rows, wanted])

    def _flat(self, name: str, value: str) -> str:
        """[B, T, H] as rows [N, H]."""
        rows = self._keep("rows_shape", np.array([-1, self._tower.hidden]))
        return self._add("Reshape", name, [value, rows])

    def _of_length_1(self, vectors: str, output: str) -> None:
        self._add("LpNormalization", "normalised", [vectors], output, axis=-1, p=2)


class _TextTower(_Tower):
    def __init__(self, shape: DualShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape.text, weights)
        self._shape = shape

    def graph(self) -> Graph:
        family = self._shape.family
        self._groups = self._add("Shape", "texts", [TEXT_IO.input_ids])
        stream = self._layers(TEXT, self._embedded(), is_causal=family.is_causal)
        states = self._grouped("states", stream)
        pooled = self._end(states) if family.is_causal else self._last(states)
        pooled = self._normed(f"{TEXT}.final_layer_norm", pooled)
        if family.is_causal:
            weight = self._source["text_projection.weight"].T
            vectors = self._multiplied("text_projection", pooled, weight)
        else:
            vectors = self._linear(f"{TEXT}.head", pooled)
        self._of_length_1(vectors, TEXT_IO.embedding)
        texts, found = ["texts", "tokens"], ["texts", self._shape.dimensions]
        return self._built(
            [helper.make_tensor_value_info(TEXT_IO.input_ids, TensorProto.INT64, texts)],
            [helper.make_tensor_value_info(TEXT_IO.embedding, TensorProto.FLOAT, found)],
        )

    def _embedded(self) -> str:
        """Words and positions, summed: rows."""
        names = [f"{TEXT}.embeddings.{part}_embedding.weight" for part in ("token", "position")]
        words = self._add("Gather", "words", [self._vector(names[0]), TEXT_IO.input_ids])
        table = self._source[names[1]][: self._shape.context_length]
        start, axis = self._keep("start", np.array([0])), self._keep("rows", np.array([0]))
        length = self._add("Shape", "length", [TEXT_IO.input_ids], start=1, end=2)
        kept = self._keep(names[1], np.ascontiguousarray(table))
        places = self._add("Slice", "positions", [kept, start, length, axis])
        return self._flat("embedded", self._add("Add", "embeddings", [words, places]))

    def _end(self, states: str) -> str:
        """The state of each text's first end token: [B, H]."""
        if self._shape.end_id is None:
            sought = TEXT_IO.input_ids
        else:
            end = self._keep("end_id", np.array(self._shape.end_id))
            sought = self._add("Equal", "end", [TEXT_IO.input_ids, end])
        numbers = self._add("Cast", "end/numbers", [sought], to=TensorProto.INT32)
        at = self._add("ArgMax", "end/at", [numbers], axis=1, keepdims=1)
        return self._add("GatherND", "pooled", [states, at], batch_dims=1)

    def _last(self, states: str) -> str:
        """The state of the last place of each text, padding as it may be: [B, H]."""
        return self._add("Gather", "pooled", [states, self._keep("last", np.array(-1))], axis=1)


class _ImageTower(_Tower):
    def __init__(self, shape: DualShape, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape.image, weights)
        self._shape = shape

    def graph(self) -> Graph:
        shape, has_class = self._shape, self._shape.family.has_class
        pictures = self._add("Shape", "pictures", [IMAGE_IO.pixel_values], start=0, end=1)
        patches = self._keep("patches", np.array([shape.patches]))
        self._groups = self._add("Concat", "groups", [pictures, patches], axis=0)
        stream = self._embedded(pictures)
        if has_class:
            stream = self._normed(f"{IMAGE}.pre_layrnorm", stream)
        stream = self._layers(IMAGE, stream, is_causal=False)
        if has_class:
            first = self._keep("class", np.array(0))
            pooled = self._add("Gather", "pooled", [self._grouped("states", stream), first], axis=1)
            pooled = self._normed(f"{IMAGE}.post_layernorm", pooled)
            weight = self._source["visual_projection.weight"].T
            vectors = self._multiplied("visual_projection", pooled, weight)
        else:
            vectors = self._looked(pictures, self._normed(f"{IMAGE}.post_layernorm", stream))
        self._of_length_1(vectors, IMAGE_IO.embedding)
        pixels, found = ["pictures", 3, shape.side, shape.side], ["pictures", shape.dimensions]
        return self._built(
            [helper.make_tensor_value_info(IMAGE_IO.pixel_values, TensorProto.FLOAT, pixels)],
            [helper.make_tensor_value_info(IMAGE_IO.embedding, TensorProto.FLOAT, found)],
        )

    def _embedded(self, pictures: str) -> str:
        """Patches through a matrix, and their places: rows. What is beyond whole patches is cut
        off, as a convolution does."""
        shape, name, hidden = self._shape, f"{IMAGE}.embeddings", self._tower.hidden
        grid, patch = shape.side // shape.patch, shape.patch
        pixels = IMAGE_IO.pixel_values
        if grid * patch < shape.side:
            bounds = [np.array([0, 0]), np.array([grid * patch] * 2), np.array([2, 3])]
            cut = [self._keep(f"cut/{n}", bound) for n, bound in enumerate(bounds)]
            pixels = self._add("Slice", "cut", [pixels, *cut])
        tiles = self._keep("tiles", np.array([0, 3, grid, patch, grid, patch]))
        tiled = self._add("Reshape", "tiled", [pixels, tiles])
        ordered = self._add("Transpose", "ordered", [tiled], perm=[0, 2, 4, 1, 3, 5])
        rows = self._keep("patch_rows", np.array([-1, 3 * patch * patch]))
        flat = self._add("Reshape", "patches/rows", [ordered, rows])
        weight = self._source[f"{name}.patch_embedding.weight"].reshape(hidden, -1).T
        bias = self._source.get(f"{name}.patch_embedding.bias")
        if bias is None:
            made = self._multiplied("patch_embedding", flat, weight)
        else:
            made = self._projected("patch_embedding", flat, weight, bias)
        grouped = self._keep("patch_groups", np.array([-1, grid * grid, hidden]))
        stream = self._add("Reshape", "patches/groups", [made, grouped])
        if shape.family.has_class:
            own = self._source[f"{name}.class_embedding"].reshape(1, 1, hidden)
            each = self._for_each(pictures, "class_token", own)
            stream = self._add("Concat", "with_class", [each, stream], axis=1)
        places = self._vector(f"{name}.position_embedding.weight")
        return self._flat("embedded", self._add("Add", "embeddings", [stream, places]))

    def _looked(self, pictures: str, rows: str) -> str:
        """What a query that is the same for all pictures finds in each one's rows: [B, H]."""
        name, hidden = f"{IMAGE}.head", self._tower.hidden
        weight = self._source[f"{name}.attention.in_proj_weight"]
        bias = self._source[f"{name}.attention.in_proj_bias"]
        query = self._source[f"{name}.probe"].reshape(1, hidden) @ weight[:hidden].T + bias[:hidden]
        asked = self._for_each(pictures, f"{name}.query", query.reshape(1, 1, hidden))
        known = self._projected(f"{name}.known", rows, weight[hidden:].T, bias[hidden:])
        parts = [f"{name}/key", f"{name}/value"]
        self._split(f"{name}/split", self._grouped(f"{name}/kv", known, 2), [hidden] * 2, parts)
        found = self._flat(f"{name}/rows", self._attention(name, [asked, *parts]))
        found = self._linear(f"{name}.attention.out_proj", found)
        inner = self._inner(f"{name}.mlp", self._normed(f"{name}.layernorm", found))
        return self._add("Add", f"{name}/found", [found, inner])

    def _for_each(self, pictures: str, name: str, one: Floats) -> str:
        """`one` [1, 1, H] for each picture: [B, 1, H]."""
        rest = self._keep("one_row", np.array([1, self._tower.hidden]))
        wanted = self._add("Concat", f"{name}/shape", [pictures, rest], axis=0)
        kept = self._keep(name, np.asarray(one, np.float32))
        return self._add("Expand", f"{name}/each", [kept, wanted])
