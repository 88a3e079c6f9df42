"""Take out of a traced decoder what tracing left in, and join what ONNX Runtime runs as one.

Each pass keeps what the graph computes. Their order matters: attention loses its reshapes first,
so that the projections before it can be joined.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import NodeProto, helper

from exporters.graph.fold import fold_widths, join_slices
from exporters.graph.graph import MARK_DOMAIN, MICROSOFT, RMS_NORM_MARK, Array, Graph, attribute
from exporters.graph.pack import ATTENTION, pack_projections

COMPARED_ROWS = 4096
SWAP = (0, 2, 1, 3)
"""[B, S, heads, D] to [B, heads, S, D], and back."""
SKIP_NORM = "SkipSimplifiedLayerNormalization"
ALL_TO_ALL = "MultiHeadAttention"
ROTARY = "RotaryEmbedding"
ROWWISE = frozenset(
    {"Add", "Div", "FastGelu", "Gelu", "MatMul", "Mul", "QuickGelu", "Relu", "Sigmoid"}
    | {"SkipSimplifiedLayerNormalization", "Split", "Sub", "Tanh", RMS_NORM_MARK}
)
"""Operators that compute each position from that position alone."""


def clean(graph: Graph) -> Counter[str]:
    """All passes, in place; the count of each kind of node that is left."""
    open_gemms(graph)
    norm_before_swap(graph)
    bypass_reshapes(graph)
    fix_head_shapes(graph)
    graph.prune()
    read_tied_head(graph)
    join_silu(graph)
    fold_widths(graph)
    pack_projections(graph)
    graph.prune()
    join_slices(graph)
    join_skip_norms(graph)
    keep_rows_early(graph)
    name_norms(graph)
    graph.prune()
    return Counter(node.op_type for node in graph.nodes)


def clean_encoder(graph: Graph) -> None:
    """The passes for a traced encoder, in place: its attention is MultiHeadAttention."""
    open_gemms(graph)
    bypass_reshapes(graph, kind=ALL_TO_ALL)
    graph.prune()
    join_silu(graph)
    pack_projections(graph)
    graph.prune()
    join_skip_norms(graph)
    name_norms(graph)
    graph.prune()


def open_gemms(graph: Graph) -> None:
    """A product and a sum in the place of Gemm, as every other projection is written.

    Gemm takes rows, so the trace flattens [B, S, K] before it and cubes [B S, N] after it: where it
    does both, neither is needed.
    """
    made, readers = graph.producers(), graph.consumers()
    for node in [n for n in graph.nodes if _is_projection(graph, n)]:
        source, weight, bias = node.input
        output = node.output[0]
        before, after = made.get(source), readers[output]
        if before is not None and len(after) == 1 and _is_flattened(graph, made, before, after[0]):
            source = before.input[0]
            graph.rename_uses(after[0].output[0], output)
        if attribute(node, "transB", 0):
            turned = np.ascontiguousarray(graph.weights[weight].T)
            weight = graph.constant(f"{node.name}/weight", turned)
        product = f"{node.name}/product"
        graph.replace(
            node,
            helper.make_node("MatMul", [source, weight], [product], name=node.name),
            helper.make_node("Add", [product, bias], [output], name=f"{node.name}/add"),
        )


def _is_projection(graph: Graph, node: NodeProto) -> bool:
    return (
        node.op_type == "Gemm"
        and len(node.input) == 3
        and all(name in graph.weights for name in node.input[1:])
        and not attribute(node, "transA", 0)
        and (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) == (1.0, 1.0)
    )


def _is_flattened(
    graph: Graph, made: dict[str, NodeProto], before: NodeProto, after: NodeProto
) -> bool:
    """Whether `before` makes rows of three axes and `after` makes those three axes of rows."""
    if (before.op_type, after.op_type) != ("Reshape", "Reshape"):
        return False
    rows, cube = made.get(before.input[1]), made.get(after.input[1])
    if rows is None or cube is None or (rows.op_type, cube.op_type) != ("Concat", "Concat"):
        return False
    leading = graph.weights.get(rows.input[0])
    sizes = [made.get(name) for name in cube.input]
    measured = [size is not None and size.op_type == "Unsqueeze" for size in sizes]
    flat = len(rows.input) == 2 and leading is not None and leading.tolist() == [-1]
    return flat and measured == [True, True, False]


def norm_before_swap(graph: Graph) -> None:
    """Norm over the last axis first, swap heads and positions after: then swaps meet and vanish."""
    made = graph.producers()
    for norm in [n for n in graph.nodes if n.op_type == RMS_NORM_MARK]:
        swap = made.get(norm.input[0])
        if swap is None or swap.op_type != "Transpose":
            continue
        normed, swapped = f"{norm.output[0]}/normed", norm.output[0]
        before = norm.input[0]
        norm.input[0], norm.output[0] = swap.input[0], normed
        permutation = attribute(swap, "perm")
        again = helper.make_node("Transpose", [normed], [swapped], name=before, perm=permutation)
        graph.nodes.append(again)


def bypass_reshapes(graph: Graph, *, kind: str = ATTENTION) -> None:
    """Let attention of a kind read and feed flat values [B, S, heads * D], as projections make and
    take them.

    The trace splits heads, swaps axes and back, and joins heads: in sum nothing.
    """
    made, readers = graph.producers(), graph.consumers()
    for node in [n for n in graph.nodes if n.op_type == ROTARY]:
        node.input[0] = _flat_source(graph, made, node.input[0])
    for node in [n for n in graph.nodes if n.op_type == kind]:
        for i in range(3):
            node.input[i] = _flat_source(graph, made, node.input[i])
        graph.rename_uses(_flat_end(readers, node.output[0]), node.output[0])


def _flat_source(graph: Graph, made: dict[str, NodeProto], value: str) -> str:
    """The flat value that `value` is a shuffle of, or has by a reshape of fixed shape."""
    source, reshapes, swaps = value, 0, 0
    best = (value, 0)
    while (node := made.get(source)) is not None:
        if node.op_type == "Reshape":
            reshapes += 1
        elif node.op_type == "Transpose" and tuple(attribute(node, "perm")) == SWAP:
            swaps += 1
        else:
            break
        source = node.input[0]
        if swaps % 2 == 0:
            best = (source, reshapes % 2)
    source, has_heads = best
    if not has_heads:
        return source
    joined = f"{source}/joined"
    if joined not in made:
        shape = graph.constant("flat_shape", np.array([0, 0, -1]))
        made[joined] = helper.make_node("Reshape", [source, shape], [joined], name=joined)
        graph.nodes.append(made[joined])
    return joined


def _flat_end(readers: dict[str, list[NodeProto]], flat: str) -> str:
    """The last value after `flat` that is the same, flat again."""
    value, end, reshapes, swaps = flat, flat, 0, 0
    while len(data := [n for n in readers[value] if n.op_type != "Shape"]) == 1:
        node = data[0]
        if node.op_type == "Reshape":
            reshapes += 1
        elif node.op_type == "Transpose" and tuple(attribute(node, "perm")) == SWAP:
            swaps += 1
        else:
            break
        value = node.output[0]
        if reshapes % 2 == 0 and swaps % 2 == 0:
            end = value
    return end


def fix_head_shapes(graph: Graph) -> None:
    """[B, S, heads, D] by a fixed shape, where the trace built it from the input's own."""
    made = graph.producers()
    for node in graph.nodes:
        if node.op_type != "Reshape" or (shape := made.get(node.input[1])) is None:
            continue
        if shape.op_type != "Concat" or len(shape.input) != 4:
            continue
        fixed = [graph.weights.get(name) for name in shape.input]
        source = made.get(node.input[0])
        flat = source is not None and source.op_type in ("MatMul", "Add", "Split", "Slice")
        if flat and fixed[0] is None and fixed[1] is None and None not in (fixed[2:]):
            split = [0, 0, *(int(np.asarray(part).item()) for part in fixed[2:])]
            name = f"head_shape_{'_'.join(map(str, split))}"
            node.input[1] = graph.constant(name, np.array(split))


def read_tied_head(graph: Graph) -> None:
    """The head multiplies by the embedding table as it lies, where that is its own weights.

    A trace copies tied weights, transposed; equal numbers are the same weights.
    """
    lookups = [n for n in graph.nodes if n.op_type == "Gather" and n.input[0] in graph.weights]
    for node in [n for n in graph.nodes if n.op_type == "MatMul" and n.input[1] in graph.weights]:
        for table in {lookup.input[0] for lookup in lookups}:
            if _is_transposed(graph.weights[node.input[1]], graph.weights[table]):
                node.op_type, node.domain = "FusedMatMul", MICROSOFT
                node.input[1] = table
                node.attribute.append(helper.make_attribute("transB", 1))
                break


def _is_transposed(weight: Array, table: Array) -> bool:
    """Whether `weight` [H, V] is `table` [V, H], compared by parts: both may be mapped files."""
    if table.ndim != 2 or weight.shape != table.shape[::-1]:
        return False
    parts = range(0, len(table), COMPARED_ROWS)
    return all(
        np.array_equal(weight[:, at : at + COMPARED_ROWS].T, table[at : at + COMPARED_ROWS])
        for at in parts
    )


def join_silu(graph: Graph) -> None:
    """x * sigmoid(x) is QuickGelu with alpha 1 (arXiv 1710.05941 calls it Swish)."""
    made = graph.producers()
    for node in [n for n in graph.nodes if n.op_type == "Mul"]:
        for x, gate in (tuple(node.input), tuple(node.input)[::-1]):
            sigmoid = made.get(gate)
            if sigmoid is not None and sigmoid.op_type == "Sigmoid" and sigmoid.input[0] == x:
                joined = helper.make_node(
                    "QuickGelu", [x], node.output, name=node.name, domain=MICROSOFT, alpha=1.0
                )
                graph.replace(node, joined)
                break


def join_skip_norms(graph: Graph) -> None:
    """A norm right after a residual sum gives both in one pass over the row."""
    made = graph.producers()
    for norm in [n for n in graph.nodes if n.op_type == RMS_NORM_MARK]:
        add = made.get(norm.input[0])
        if add is None or add.op_type != "Add" or set(add.input) & graph.weights.keys():
            continue
        joined = helper.make_node(
            SKIP_NORM,
            [*add.input, norm.input[1]],
            [norm.output[0], "", "", add.output[0]],
            name=norm.name,
            domain=MICROSOFT,
            epsilon=attribute(norm, "epsilon"),
        )
        graph.replace(norm, joined)
        graph.nodes = [node for node in graph.nodes if node is not add]
        made[add.output[0]] = joined


def keep_rows_early(graph: Graph) -> None:
    """Choose the wanted positions right after the last attention, not after the last norm.

    What follows it computes each position by itself, so the others need never be computed.
    """
    readers = graph.consumers()
    gather = next((n for n in graph.nodes if _chooses_rows(graph, n)), None)
    if gather is None:
        return
    lifted = [gather]
    ends = graph.output_names()
    for node in reversed(graph.nodes):
        after = [reader for name in node.output for reader in readers.get(name, [])]
        inside = all(any(reader is node_in for node_in in lifted) for reader in after)
        if after and inside and node.op_type in ROWWISE and not ends.intersection(node.output):
            lifted.append(node)
    if len(lifted) == 1:
        return
    wanted, own = gather.input[1], {name for node in lifted for name in node.output}
    source, result = gather.input[0], gather.output[0]
    lifted.remove(gather)
    for node in lifted:
        for i, name in enumerate(node.input):
            if name and name not in own and name not in graph.weights:
                node.input[i] = _chosen(graph, name, wanted)
    graph.nodes = [node for node in graph.nodes if node is not gather]
    graph.rename_uses(source, result)
    for node in lifted:
        node.output[:] = [result if name == source else name for name in node.output]


def _chooses_rows(graph: Graph, node: NodeProto) -> bool:
    inputs = {i.name for i in graph.inputs}
    return node.op_type == "Gather" and attribute(node, "axis", 0) == 1 and node.input[1] in inputs


def _chosen(graph: Graph, name: str, wanted: str) -> str:
    chosen = f"{name}/kept"
    if chosen not in graph.producers():
        graph.nodes.append(
            helper.make_node("Gather", [name, wanted], [chosen], name=chosen, axis=1)
        )
    return chosen


def name_norms(graph: Graph) -> None:
    """ONNX Runtime's norm in the place of the mark."""
    for node in graph.nodes:
        if node.op_type == RMS_NORM_MARK and node.domain == MARK_DOMAIN:
            node.op_type, node.domain = "SimplifiedLayerNormalization", ""
            node.attribute.extend(
                [helper.make_attribute("axis", -1), helper.make_attribute("stash_type", 1)]
            )
