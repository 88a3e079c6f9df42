"""The same quantised graph on the daemon's own operators, where they have a form of it.

`nsedge.native` brings three: BlockMatMul for MatMulNBits, BlockRows for an embedding that is tied
to the head, and CachedAttention for GroupQueryAttention over an int8 cache. The graph that comes of
it takes tokens of several sequences at once, and reads the same weights from the same file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporters.graph.balance import Floats, factors
from exporters.graph.graph import MICROSOFT, attribute, index_of
from exporters.graph.records import SEGMENTS
from exporters.graph.turned import pack_turned
from nsedge.bundle.causal_lm import TOKEN_SCALE_BYTES
from nsedge.native import DOMAIN

MATMUL = "BlockMatMul"
ROWS = "BlockRows"
ATTENTION = "CachedAttention"
BLOCK_MULTIPLE = {4: 32, 8: 16}
"""Of weights of so many bits."""
PLAIN_ATTENTION = frozenset(
    {"num_heads", "kv_num_heads", "scale", "do_rotary", "rotary_interleaved"}
)
"""Attributes of GroupQueryAttention that CachedAttention has a form of."""
HEAD_MULTIPLE = 16
WIDEST_HEAD = 512


def why_no_form(graph: Path) -> str | None:
    """Why the model at `graph` has no native form; None where it has one.

    All attention has to be rewritten or none of the graph is: the cache has one type, and nothing
    else may ask for the rows' lengths.
    """
    model = onnx.load(graph, load_external_data=False)
    pack_turned(model)
    return _Rewriting(model).why_not()


def write_native(
    graph: Path, target: Path, *, uneven: Mapping[int, Floats] | None = None
) -> str | None:
    """Rewrite the model at `graph` to `target`, beside it; where it has no native form, why not.

    `uneven` are the layers whose keys are evened out before they are cached, with the magnitudes
    [kv_heads, head_dim] of their keys.
    """
    model = onnx.load(graph, load_external_data=False)
    pack_turned(model)
    rewriting = _Rewriting(model)
    if (reason := rewriting.why_not()) is not None:
        return reason
    rewriting.attention(uneven or {})
    rewriting.matmuls()
    rewriting.tied_embeddings()
    rewriting.finish()
    target.write_bytes(model.SerializeToString())
    return None


@dataclass(frozen=True)
class _Shift:
    """The node that adds to a product of blocks their offsets [N, blocks] times x's sums."""

    add: NodeProto
    offsets: str


class _Rewriting:
    """One model, rewritten in place."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._nodes = list(model.graph.node)

    def why_not(self) -> str | None:
        """Why an attention node has no form of its own; None where each has one."""
        nodes = self._attention_nodes()
        if not nodes:
            return "it has no attention"
        reasons = (self._why_not(node) for node in nodes)
        return next((reason for reason in reasons if reason is not None), None)

    def attention(self, uneven: Mapping[int, Floats]) -> None:
        """Replace every attention node; before those of the layers in `uneven`, even keys out."""
        for layer, node in enumerate(self._attention_nodes()):
            if layer in uneven:
                self._even_out(node, uneven[layer])
            self._replace(node, _cached_attention(node))

    def _attention_nodes(self) -> list[NodeProto]:
        """Layer by layer, since each reads what the one before has made."""
        return [n for n in self._nodes if n.op_type == "GroupQueryAttention"]

    def _even_out(self, node: NodeProto, ranges: Floats) -> None:
        """Multiply the packed query, key and value that `node` reads."""
        heads, rotary = attribute(node, "num_heads"), 2 * self._columns(node.input[7])
        name, packed = f"{node.name}/evened", factors(ranges, heads=heads, rotary=rotary)
        constant = f"{name}/factors"
        self._model.graph.initializer.append(numpy_helper.from_array(packed, constant))
        multiply = helper.make_node("Mul", [node.input[0], constant], [name], name=name)
        at = index_of(self._nodes, node)
        self._nodes[at:at] = [multiply]
        node.input[0] = name

    def _columns(self, table: str) -> int:
        """Columns of a constant."""
        tensor = next(i for i in self._model.graph.initializer if i.name == table)
        return int(tensor.dims[1])

    def matmuls(self) -> None:
        """Replace every product of blocks, with the gate before it and the offsets after it."""
        made = {name: node for node in self._nodes for name in node.output}
        readers: dict[str, int] = defaultdict(int)
        for node in self._nodes:
            for name in node.input:
                readers[name] += 1
        for node in [n for n in self._nodes if _is_block_matmul(n)]:
            gate = _gate_before(node, made, readers)
            shift = self._shift_after(node, made)
            self._replace(shift.add if shift else node, _block_matmul(node, gate, shift))

    def tied_embeddings(self) -> None:
        """Let a look-up read the weights that a product has packed, where both are of one table."""
        heads = {
            (node.input[1], node.input[2]): node
            for node in self._nodes
            if node.op_type == MATMUL and attribute(node, "bits") == 8 and not any(node.input[3:5])
        }
        made = {name: node for node in self._nodes for name in node.output}
        for lookup in [n for n in self._nodes if n.op_type == "GatherBlockQuantized"]:
            scales = made.get(lookup.input[2])
            readers = [n for n in self._nodes if lookup.output[0] in n.input]
            if scales is None or len(readers) != 1 or readers[0].op_type != "Reshape":
                continue
            head = heads.get((lookup.input[0], scales.input[0]))
            if head is not None:
                self._replace(readers[0], _block_rows(lookup.input[1], head, readers[0]))

    def finish(self) -> None:
        """Drop what nothing reads, and say what inputs and caches are now."""
        graph = self._model.graph
        wanted = {output.name for output in graph.output}
        kept = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        del graph.node[:]
        graph.node.extend(kept[::-1])
        initializers = [i for i in graph.initializer if i.name in wanted]
        del graph.initializer[:]
        graph.initializer.extend(initializers)
        caches = {n for node in kept if node.op_type == ATTENTION for n in node.input[1:3]}
        caches |= {n for node in kept if node.op_type == ATTENTION for n in node.output[1:3]}
        for value in [*graph.input, *graph.output]:
            if value.name in caches:
                _make_int8(value)
        read = wanted | {output.name for output in graph.output}
        inputs = [value for value in graph.input if value.name in read]
        segments = helper.make_tensor_value_info(SEGMENTS, TensorProto.INT32, ["segments", 3])
        del graph.input[:]
        graph.input.extend([*inputs, segments])
        self._model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _shift_after(self, node: NodeProto, made: dict[str, NodeProto]) -> _Shift | None:
        """The offsets of `node`'s blocks, where what reads it adds them times the sums of x."""
        after = [n for n in self._nodes if node.output[0] in n.input]
        if len(after) != 1 or after[0].op_type != "Add":
            return None
        other = next(made.get(name) for name in after[0].input if name != node.output[0])
        if other is None or other.op_type != "FusedMatMul" or attribute(other, "transB") != 1:
            return None
        sums = made.get(other.input[0])
        cubed = None if sums is None or sums.op_type != "ReduceSum" else made.get(sums.input[0])
        if cubed is None or cubed.op_type != "Reshape":
            return None
        return _Shift(after[0], other.input[1]) if cubed.input[0] == node.input[0] else None

    def _why_not(self, node: NodeProto) -> str | None:
        """What keeps attention from being packed, rotary, causal over all tokens, and no more."""
        if attribute(node, "do_rotary") != 1 or attribute(node, "rotary_interleaved", 0):
            return "positions do not enter by the operator's rotary embedding in every layer"
        given = {a.name for a in node.attribute if helper.get_attribute_value(a) not in (0, -1)}
        if more := given - PLAIN_ATTENTION:
            return f"its attention has {', '.join(sorted(more))}"
        inputs = [bool(name) for name in node.input]
        if inputs[1] or inputs[2]:
            return "something is done to keys or queries before the rotary embedding"
        if not all(inputs[i] for i in (0, 3, 4, 5, 6, 7, 8)) or any(inputs[9:]):
            return "its attention has further inputs"
        if not all(attribute(node, name) for name in ("num_heads", "kv_num_heads", "scale")):
            return "its attention does not state heads and scale"
        size = self._head_size(node)
        if size % HEAD_MULTIPLE or size > WIDEST_HEAD:
            return f"its heads are {size} wide"
        return None

    def _head_size(self, node: NodeProto) -> int:
        value = next(i for i in self._model.graph.input if i.name == node.input[3])
        return int(value.type.tensor_type.shape.dim[3].dim_value) or 1

    def _replace(self, node: NodeProto, new: NodeProto) -> None:
        self._nodes[index_of(self._nodes, node)] = new


def _cached_attention(node: NodeProto) -> NodeProto:
    qkv, _, _, past_key, past_value, _, _, cos, sin = node.input[:9]
    return helper.make_node(
        ATTENTION,
        [qkv, past_key, past_value, SEGMENTS, cos, sin],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        num_heads=attribute(node, "num_heads"),
        kv_num_heads=attribute(node, "kv_num_heads"),
        scale=attribute(node, "scale"),
    )


def _is_block_matmul(node: NodeProto) -> bool:
    inputs = [*node.input, "", "", ""]
    return (
        node.op_type == "MatMulNBits"
        and (multiple := BLOCK_MULTIPLE.get(attribute(node, "bits"))) is not None
        and attribute(node, "block_size") % multiple == 0
        and not inputs[4]  # group indices
    )


def _block_matmul(node: NodeProto, gate: str | None, shift: _Shift | None) -> NodeProto:
    zeros, _, bias = [*node.input[3:], "", "", ""][:3]
    source = node.input[0] if gate is None else gate
    offsets = "" if shift is None else shift.offsets
    return helper.make_node(
        MATMUL,
        [source, *node.input[1:3], zeros if shift is None else "", offsets, bias],
        list(node.output if shift is None else shift.add.output),
        name=node.name,
        domain=DOMAIN,
        N=attribute(node, "N"),
        K=attribute(node, "K"),
        bits=attribute(node, "bits"),
        block_size=attribute(node, "block_size"),
        gated=int(gate is not None),
    )


def _block_rows(ids: str, head: NodeProto, reshape: NodeProto) -> NodeProto:
    """The rows of the head's table for `ids`, in the place of what gave them their shape."""
    return helper.make_node(
        ROWS,
        [ids, *head.input[1:3]],
        list(reshape.output),
        name=reshape.name,
        domain=DOMAIN,
        N=attribute(head, "N"),
        K=attribute(head, "K"),
        block_size=attribute(head, "block_size"),
    )


def _gate_before(
    node: NodeProto, made: dict[str, NodeProto], readers: dict[str, int]
) -> str | None:
    """The joint gate and up value, where `node` reads silu(gate) * up of its two halves."""
    product = made.get(node.input[0])
    if product is None or product.op_type != "Mul":
        return None
    for activated, up in (product.input, reversed(product.input)):
        activation, split = made.get(activated), made.get(up)
        if activation is None or split is None or not _is_silu(activation):
            continue
        if split.op_type != "Split" or len(split.output) != 2 or split.domain == MICROSOFT:
            continue
        halves = [activation.input[0], up]
        if halves == list(split.output) and readers[activated] == 1:
            return str(split.input[0])
    return None


def _is_silu(node: NodeProto) -> bool:
    return node.op_type == "QuickGelu" and attribute(node, "alpha") == 1.0


def _make_int8(value: ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.INT8
    tensor.shape.dim[3].dim_value += TOKEN_SCALE_BYTES
