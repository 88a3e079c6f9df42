"""8-bit weights with one scale a channel, 8-bit activations with one scale a row.

Whole rows multiply in integers, which ONNX Runtime does two to three times as fast as blocks, and
which asks for rows without outliers: the graph is rotated first. After a norm a rotated row is
close to normal with variance 1, so that a fixed scale serves all rows and quantising is one node;
elsewhere the row is divided by its greatest magnitude. Sums are exact integers: a row's result
depends neither on its neighbours nor on the chunk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from exporters.graph.graph import MICROSOFT, Graph
from exporters.graph.pack import Projection, projections
from exporters.quantise.blocks import kept_fp32, quantise_tables, refuse_large
from exporters.quantise.observe import Calibration, second_moments
from exporters.quantise.rotate import SEED, Rotation, orthogonal, rotate
from exporters.quantise.rounding import LEVELS, round_columns
from exporters.quantise.schemes import Scheme

CLIP = 4.2
"""Standard deviations that a fixed scale covers: least KL of 3.8 to 5 on the starter model."""
ZERO_POINT = 128
MIX = 64
"""Channels mixed by a Hadamard matrix where neither stream nor heads have been turned. A power
of two; 512 would mix better and cost eight times as much."""


def quantise_w8a8(graph: Graph, scheme: Scheme, calibration: Calibration) -> dict[str, int]:
    """Rotate and quantise `graph` in place; what stays fp32, as kind -> bytes.

    Raises:
        Refused: the architecture does not allow a rotation, or has a large matrix that is
            multiplied in another way.
    """
    rotation = rotate(graph)
    moments = second_moments(graph, [p.source for p in projections(graph)], calibration)
    quantise_tables(graph, scheme)
    rewriting = _Rewriting(graph, rotation)
    for projection in list(projections(graph)):
        rewriting.quantise(projection, moments[projection.source])
    graph.prune()
    refuse_large(graph)
    return kept_fp32(graph)


class _Rows:
    """Quantised rows: uint8 values, their fixed scale, and the value to multiply results by."""

    def __init__(self, *, values: str, scale: str, factor: str | None) -> None:
        self.values = values
        self.scale = scale
        self.factor = factor


class _Rewriting:
    """Puts integer products in the place of projections; rows are quantised once a source."""

    def __init__(self, graph: Graph, rotation: Rotation) -> None:
        self._graph = graph
        self._rotation = rotation
        self._rows: dict[str, _Rows] = {}
        self._zero = graph.constant("w8a8/zero", np.array(ZERO_POINT, np.uint8))

    def quantise(self, projection: Projection, moments: NDArray[np.float32]) -> None:
        """Replace a projection, its bias included; `moments` [K, K] are its input's."""
        graph, name = self._graph, projection.multiply.name
        weight = np.ascontiguousarray(graph.weights.pop(projection.weight), np.float32)
        block = self._mixed(projection.source, len(weight))
        if block > 1:
            mix = mixing(block)
            weight = _mix_rows(weight, mix)
            moments = _mix_rows(_mix_rows(moments, mix).T, mix)
        columns = round_columns(weight, moments)
        nodes: list[NodeProto] = []
        rows = self._quantised_rows(projection.source, name, block, len(weight), nodes)
        inputs = [
            rows.values,
            graph.constant(f"{name}/q", columns.q),
            rows.scale,
            graph.constant(f"{name}/scales", columns.scales),
            self._zero,
        ]
        nodes += _product(inputs, rows.factor, projection)
        graph.replace(projection.multiply, *nodes)
        graph.nodes = [node for node in graph.nodes if node is not projection.add]

    def _mixed(self, source: str, width: int) -> int:
        """Channels to mix of `source`: 1 where it has been turned already."""
        if source in self._rotation.normed or source in self._rotation.attended:
            return 1
        return min(MIX, width & -width)

    def _quantised_rows(
        self, source: str, name: str, block: int, width: int, nodes: list[NodeProto]
    ) -> _Rows:
        if source in self._rows:
            return self._rows[source]
        if source in self._rotation.normed:
            row, factor, largest = source, None, CLIP
        else:
            mixed = self._mix(source, name, block, width, nodes) if block > 1 else source
            row, factor = self._divide_by_greatest(mixed, name, nodes)
            largest = 1.0
        step = np.array(largest / LEVELS, np.float32)
        scale = self._graph.constant(f"w8a8/scale_{largest:g}", step)
        values = f"{name}/rows"
        inputs = [row, scale, self._zero]
        nodes.append(helper.make_node("QuantizeLinear", inputs, [values], name=values))
        self._rows[source] = _Rows(values=values, scale=scale, factor=factor)
        return self._rows[source]

    def _mix(self, source: str, name: str, block: int, width: int, nodes: list[NodeProto]) -> str:
        """`source` [B, S, K] with each `block` of its channels mixed."""
        graph = self._graph
        matrix = graph.constant(f"w8a8/mix_{block}", mixing(block))
        parts = np.array([0, 0, width // block, block])
        cut = graph.constant(f"w8a8/blocks_{width}_{block}", parts)
        whole = graph.constant(f"w8a8/whole_{width}", np.array([0, 0, width]))
        blocks, mixed, joined = f"{name}/blocks", f"{name}/mixed", f"{name}/joined"
        nodes.append(helper.make_node("Reshape", [source, cut], [blocks], name=blocks))
        nodes.append(helper.make_node("MatMul", [blocks, matrix], [mixed], name=mixed))
        nodes.append(helper.make_node("Reshape", [mixed, whole], [joined], name=joined))
        return joined

    def _divide_by_greatest(
        self, source: str, name: str, nodes: list[NodeProto]
    ) -> tuple[str, str]:
        """Rows in -1..1, and what they were divided by.

        A row of zeros becomes 0 / 0, whatever that is quantised to is finite, and times 0 is 0.
        """
        axis = self._graph.constant("w8a8/last_axis", np.array([-1]))
        size, greatest, row = f"{name}/size", f"{name}/greatest", f"{name}/row"
        nodes.append(helper.make_node("Abs", [source], [size], name=size))
        nodes.append(helper.make_node("ReduceMax", [size, axis], [greatest], name=greatest))
        nodes.append(helper.make_node("Div", [source, greatest], [row], name=row))
        return row, greatest


def mixing(block: int) -> NDArray[np.float32]:
    """The Hadamard matrix [block, block] that mixes channels, orthogonal."""
    return orthogonal(block, np.random.default_rng(SEED + 2)).astype(np.float32)


def _mix_rows(matrix: NDArray[np.float32], mix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each block of rows of `matrix` [K, N] times the transposed mixing matrix."""
    blocks = matrix.reshape(len(matrix) // len(mix), len(mix), -1)
    return np.ascontiguousarray((mix.T @ blocks).reshape(matrix.shape))


def _product(inputs: list[str], factor: str | None, projection: Projection) -> list[NodeProto]:
    """The integer product, made real, and its bias."""
    name, output, bias = projection.multiply.name, projection.output, projection.bias
    if factor is None:
        inputs = [*inputs, "", bias] if bias is not None else inputs
        return [_multiply(inputs, output, name)]
    scaled = output if bias is None else f"{name}/scaled"
    nodes = [
        _multiply(inputs, f"{name}/unit", name),
        helper.make_node("Mul", [f"{name}/unit", factor], [scaled], name=f"{name}/scale"),
    ]
    if bias is not None:
        nodes.append(helper.make_node("Add", [scaled, bias], [output], name=f"{name}/bias"))
    return nodes


def _multiply(inputs: list[str], output: str, name: str) -> NodeProto:
    return helper.make_node("MatMulIntegerToFloat", inputs, [output], name=name, domain=MICROSOFT)
