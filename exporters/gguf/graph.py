"""The fp32 graph of a GGUF file's model, written as the clean-up leaves a traced one.

Nodes, and the names of values, are those that tracing and `exporters.trace.clean` make of the same
model, so that every later stage takes either. Weights are read when the graph is saved, one at a
time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from exporters.errors import ExportError
from exporters.gguf.blocks import read_blocks
from exporters.gguf.file import GgufFile
from exporters.gguf.model import HEAD, NORM, ROPE_FACTORS, TABLE, Shape, hub_rows, shape_of
from exporters.graph.graph import MICROSOFT, Graph
from exporters.graph.records import GRAPH_FILE, ReferenceRecord
from exporters.model.own_blocks import OwnBlocks
from nsedge.bundle.causal_lm import GraphIo, KvLayout

TABLE_WEIGHT = "model.embed_tokens.weight"
HEAD_WEIGHT = "lm_head.weight"
COSINES, SINES = "/model/rotary_emb/cos", "/model/rotary_emb/sin"
EMBEDDED = "/model/embed_tokens/Gather_output_0"

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """A float32 array that is made when NumPy asks for it, and not kept."""

    shape: tuple[int, ...]
    make: Callable[[], Floats]

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the array."""
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return 4 * prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        return self.make()


def make_reference(file: GgufFile, out: Path, *, max_context: int) -> None:
    """Write the fp32 graph, its weights and `ReferenceRecord` to the directory `out`.

    Raises:
        Refused: the file holds another kind of model.
        ExportError: it is damaged.
    """
    shape = shape_of(file)
    context = min(shape.context, max_context)
    graph = graph_of(file, shape, context=context)
    graph.save(out / GRAPH_FILE)
    ReferenceRecord(
        io=GraphIo(),
        kv=kv_layout(shape),
        context_length=context,
        vocab_size=shape.vocabulary,
        nodes=dict(Counter(node.op_type for node in graph.nodes)),
        difference=None,
    ).write(out)


def kv_layout(shape: Shape) -> KvLayout:
    """The cache of a model."""
    return KvLayout(layers=shape.layers, heads=shape.kv_heads, head_dim=shape.head_dim)


def graph_of(file: GgufFile, shape: Shape, *, context: int) -> Graph:
    """The graph, its larger weights `Deferred`; rotary tables for `context` positions."""
    return _Building(file, shape, context).graph()


class OwnWeights:
    """The blocks that a file keeps the weights of its graph in."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._shape = shape_of(file)
        building = _Building(file, self._shape, context=1)
        building.graph()
        self._tensors = building.tensors

    def blocks(self, weight: str) -> tuple[OwnBlocks, ...]:
        """Of a weight of the graph, as a matrix [N, K]: its parts, one after the other along N.
        Nothing where not all of it comes in blocks.

        Raises:
            ExportError: the file is cut short.
        """
        parts = []
        for tensor in self._tensors.get(weight, ()):
            found = read_blocks(self._file, tensor)
            if found is None:
                return ()
            order = np.argsort(_places(self._shape, self._file, tensor))
            parts.append(found.rows(order))
        return tuple(parts)


def rotary_tables(shape: Shape, factors: Floats | None, context: int) -> tuple[Floats, Floats]:
    """Cosines and sines [context, head_dim / 2] (arXiv 2104.09864).

    Each frequency is divided by its factor [head_dim / 2], where there are some. Angles are fp32,
    as the models' code has them; at a context of thousands their rounding is seen.

    Raises:
        ExportError: an angle is no finite number.
    """
    even = np.arange(0, shape.head_dim, 2, dtype=np.float32) / np.float32(shape.head_dim)
    with np.errstate(all="ignore"):
        frequencies = np.float32(1) / np.power(np.float32(shape.rope_base), even)
        frequencies = frequencies / np.float32(shape.rope_factor)
        if factors is not None:
            frequencies = frequencies / factors
        angles = np.arange(context, dtype=np.float32)[:, None] * frequencies
    if not np.isfinite(angles).all():
        raise ExportError("the rotary embedding's base and factors give no angles")
    exact = angles.astype(np.float64)
    return np.cos(exact).astype(np.float32), np.sin(exact).astype(np.float32)


def _places(shape: Shape, file: GgufFile, tensor: str) -> NDArray[np.int64]:
    """Which row of the model each row of the file's tensor is."""
    rows = file.tensors[tensor].shape[0]
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(tensor.split(".")[-2])
    if heads is None or not shape.family.interleaved:
        return np.arange(rows)
    return hub_rows(rows, heads)


class _Building:
    """One graph, put together in the order in which it runs."""

    def __init__(self, file: GgufFile, shape: Shape, context: int) -> None:
        self._file = file
        self._shape = shape
        self._io = GraphIo()
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, Any] = {}
        self.tensors: dict[str, tuple[str, ...]] = {}
        """Which of the file make up each of the weights that are matrices."""
        factors = file.read(ROPE_FACTORS) if ROPE_FACTORS in file.tensors else None
        cosines, sines = rotary_tables(shape, factors, context)
        self._tables = [self._keep(COSINES, cosines), self._keep(SINES, sines)]

    def graph(self) -> Graph:
        """All of it."""
        self._embed()
        stream, written = EMBEDDED, None
        for layer in range(self._shape.layers):
            stream, written = self._layer(layer, stream, written)
        weight = self._vector("/model/norm/Constant_output_0", NORM)
        last = f"/model/layers.{self._shape.layers - 1}/Add_1_output_0"
        self._norm("/model/norm", stream, written, weight, "/Gather_output_0", last)
        self._head()
        return Graph(
            nodes=self._nodes, inputs=self._inputs(), outputs=self._outputs(), weights=self._weights
        )

    def _embed(self) -> None:
        self.tensors[TABLE_WEIGHT] = (TABLE,)
        rows = self._shape.vocabulary, self._shape.width
        table = self._keep(TABLE_WEIGHT, Deferred(shape=rows, make=lambda: self._file.read(TABLE)))
        name = "/model/embed_tokens/Gather"
        self._add("Gather", name, [table, self._io.input_ids], [EMBEDDED])

    def _head(self) -> None:
        name, normed, logits = "/lm_head/MatMul", "/Gather_output_0", self._io.logits
        if self._shape.tied:
            inputs = [normed, TABLE_WEIGHT]
            self._add("FusedMatMul", name, inputs, [logits], domain=MICROSOFT, transB=1)
            return
        weight = self._matrix(HEAD_WEIGHT, [HEAD])
        self._add("MatMul", name, [normed, weight], [logits])

    def _layer(self, layer: int, stream: str, written: str | None) -> tuple[str, str]:
        """A layer that reads `stream`, and what the layer before has `written`; the same of it.

        In the last, only the wanted positions go on after attention.
        """
        at, block = f"/model/layers.{layer}", f"blk.{layer}"
        normed = f"{at}/input_layernorm/RmsNorm_output_0"
        name, total = f"{at}/input_layernorm", f"/model/layers.{layer - 1}/Add_1_output_0"
        weight = self._vector(f"{name}/Constant_output_0", f"{block}.attn_norm.weight")
        self._norm(name, stream, written, weight, normed, total)
        if written is not None:
            stream = total
        attended = self._attention(layer, normed)
        last = layer == self._shape.layers - 1
        if last:
            attended = self._wanted(attended)
        projected = f"{at}/self_attn/o_proj/MatMul_output_0"
        weight = self._matrix(f"{at}/self_attn/o_proj/weight", [f"{block}.attn_output.weight"])
        self._add("MatMul", f"{at}/self_attn/o_proj/MatMul", [attended, weight], [projected])
        if last:
            stream = self._wanted(stream)
        name = f"{at}/post_attention_layernorm"
        weight = self._vector(f"{name}/Constant_output_0", f"{block}.ffn_norm.weight")
        normed, total = f"{name}/RmsNorm_output_0", f"{at}/Add_output_0"
        self._norm(name, stream, projected, weight, normed, total)
        return total, self._mlp(layer, normed)

    def _wanted(self, value: str) -> str:
        kept = f"{value}/kept"
        self._add("Gather", kept, [value, self._io.kept_positions], [kept], axis=1)
        return kept

    def _attention(self, layer: int, normed: str) -> str:
        shape, io = self._shape, self._io
        at = f"/model/layers.{layer}/self_attn"
        attended = f"{at}/GroupQueryAttention_output_0"
        window = {} if shape.window is None else {"local_window_size": shape.window}
        past = [io.past_key.format(layer=layer), io.past_value.format(layer=layer)]
        present = [io.present_key.format(layer=layer), io.present_value.format(layer=layer)]
        lengths = [io.seqlens_k, io.total_sequence_length]
        self._add(
            "GroupQueryAttention",
            f"{at}/GroupQueryAttention",
            [*self._query_key_value(layer, normed), *past, *lengths, *self._tables],
            [attended, *present],
            domain=MICROSOFT,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=shape.head_dim**-0.5,
            do_rotary=1,
            rotary_interleaved=0,
            **window,
        )
        return attended

    def _query_key_value(self, layer: int, normed: str) -> list[str]:
        """The inputs of attention: one packed value, or three where heads are normed."""
        shape, block, at = self._shape, f"blk.{layer}", f"/model/layers.{layer}/self_attn"
        parts = [f"{block}.{name}" for name in ("attn_q", "attn_k", "attn_v")]
        packed = self._packed(f"{at}/q_proj+2", normed, [f"{part}.weight" for part in parts])
        if shape.family.biases:
            biases = [self._file.read(f"{part}.bias") for part in parts]
            name = f"{at}/q_proj+2"
            bias = self._keep(f"{name}/bias", np.concatenate(biases))
            self._add("Add", f"{name}/add", [packed, bias], [f"{name}/biased"])
            packed = f"{name}/biased"
        if not shape.family.head_norms:
            return [packed, "", ""]
        values = [f"{at}/{name}_proj/MatMul_output_0" for name in "qkv"]
        self._split(packed, values, [shape.heads, shape.kv_heads, shape.kv_heads], shape.head_dim)
        query = self._normed_heads(f"{at}/Reshape", values[0], f"{at}/q_norm", f"{parts[0]}_norm")
        key = self._normed_heads(f"{at}/Reshape_1", values[1], f"{at}/k_norm", f"{parts[1]}_norm")
        return [query, key, values[2]]

    def _normed_heads(self, cut: str, value: str, norm: str, tensor: str) -> str:
        """`value` [B, S, heads * D] with each head normed."""
        size = self._shape.head_dim
        heads = self._keep(f"head_shape_0_0_-1_{size}", np.array([0, 0, -1, size]))
        flat = self._keep("flat_shape", np.array([0, 0, -1]))
        self._add("Reshape", cut, [value, heads], [f"{cut}_output_0"], allowzero=0)
        weight = self._vector(f"{norm}/Constant_output_0", f"{tensor}.weight")
        normed = f"{norm}/RmsNorm_output_0"
        self._norm(norm, f"{cut}_output_0", None, weight, normed, "")
        joined = f"{normed}/joined"
        self._add("Reshape", joined, [normed, flat], [joined])
        return joined

    def _mlp(self, layer: int, normed: str) -> str:
        at, block = f"/model/layers.{layer}/mlp", f"blk.{layer}"
        tensors = [f"{block}.ffn_gate.weight", f"{block}.ffn_up.weight"]
        packed = self._packed(f"{at}/gate_proj+1", normed, tensors)
        gate, up = f"{at}/gate_proj/MatMul_output_0", f"{at}/up_proj/MatMul_output_0"
        self._split(packed, [gate, up], [1, 1], self._shape.inner)
        act, product = f"{at}/act_fn/Mul", f"{at}/Mul_output_0"
        # x * sigmoid(x), as exporters.trace.clean writes it
        self._add("QuickGelu", act, [gate], [f"{act}_output_0"], domain=MICROSOFT, alpha=1.0)
        self._add("Mul", f"{at}/Mul", [f"{act}_output_0", up], [product])
        weight = self._matrix(f"{at}/down_proj/weight", [f"{block}.ffn_down.weight"])
        down = f"{at}/down_proj/MatMul"
        self._add("MatMul", down, [product, weight], [f"{down}_output_0"])
        return f"{down}_output_0"

    def _packed(self, name: str, value: str, tensors: list[str]) -> str:
        weight = self._matrix(f"{name}/weight", tensors)
        self._add("MatMul", name, [value, weight], [f"{name}/out"])
        return f"{name}/out"

    def _split(self, packed: str, values: list[str], parts: Sequence[int], width: int) -> None:
        sizes = self._keep(f"{packed}/sizes", np.array([part * width for part in parts]))
        self._add("Split", f"{packed}/split", [packed, sizes], values, axis=-1)

    def _norm(
        self, name: str, stream: str, written: str | None, weight: str, normed: str, total: str
    ) -> None:
        """Norm `stream`; where something was `written` beside it, norm their `total`."""
        epsilon = self._shape.epsilon
        if written is None:
            kind, inputs, outputs = "SimplifiedLayerNormalization", [stream, weight], [normed]
            options: dict[str, Any] = {"axis": -1, "stash_type": 1}
        else:
            kind, inputs = "SkipSimplifiedLayerNormalization", [stream, written, weight]
            outputs, options = [normed, "", "", total], {"domain": MICROSOFT}
        self._add(kind, f"{name}/RmsNorm", inputs, outputs, epsilon=epsilon, **options)

    def _vector(self, name: str, tensor: str) -> str:
        return self._keep(name, self._file.read(tensor))

    def _matrix(self, name: str, tensors: list[str]) -> str:
        """Projections [N, K] of the file side by side as one weight [K, N]."""
        sizes = [self._file.tensors[tensor].shape for tensor in tensors]
        shape = (sizes[0][1], sum(rows for rows, _ in sizes))
        self.tensors[name] = tuple(tensors)
        return self._keep(name, Deferred(shape=shape, make=lambda: self._columns(tensors, shape)))

    def _columns(self, tensors: list[str], shape: tuple[int, ...]) -> Floats:
        """Row by row into its column: no second copy of the matrix is made."""
        matrix, first = np.empty(shape, np.float32), 0
        for tensor in tensors:
            place = first + _places(self._shape, self._file, tensor)
            for begin, rows in self._file.parts(tensor):
                matrix[:, place[begin : begin + len(rows)]] = rows.T
            first += len(place)
        return matrix

    def _keep(self, name: str, array: Any) -> str:
        self._weights[name] = array
        return name

    def _add(
        self, kind: str, name: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> None:
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))

    def _inputs(self) -> list[ValueInfoProto]:
        io = self._io
        return [
            _value(io.input_ids, TensorProto.INT64, ["batch", "queries"]),
            _value(io.seqlens_k, TensorProto.INT32, ["batch"]),
            _value(io.total_sequence_length, TensorProto.INT32, []),
            _value(io.kept_positions, TensorProto.INT64, ["kept"]),
            *self._cache(io.past_key, io.past_value),
        ]

    def _outputs(self) -> list[ValueInfoProto]:
        io = self._io
        logits: list[int | str] = ["batch", "kept", self._shape.vocabulary]
        return [
            _value(io.logits, TensorProto.FLOAT, logits),
            *self._cache(io.present_key, io.present_value),
        ]

    def _cache(self, key: str, value: str) -> list[ValueInfoProto]:
        shape = self._shape
        names = [n.format(layer=layer) for layer in range(shape.layers) for n in (key, value)]
        sizes: list[int | str] = ["batch", shape.kv_heads, "capacity", shape.head_dim]
        return [_value(name, TensorProto.FLOAT, sizes) for name in names]


def _value(name: str, kind: int, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
