"""Encoders in 8 bits: weights with one scale a channel, activations with one scale a layer or row.

Whole rows multiply in integers, which ONNX Runtime does several times as fast as blocks or fp32.
That asks for inputs without outliers, whose largest numbers would take the levels from all others:

- What a norm gives is evened out (SmoothQuant, arXiv 2211.10438): some of a channel's size moves
  into the weights, through a second norm with other gains, which costs less than a product would.
- What Gelu gives is never below -0.17, so that nearly all levels are for what is above 0. Rows
  differ widely there: each has its own scale, by its greatest number.
- What attention gives has no outliers.

Where a range is fixed it comes of calibration. What is made of an input never depends on those
beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from exporters.graph.graph import MICROSOFT, Graph
from exporters.graph.pack import Projection, projections
from exporters.quantise.blocks import kept_fp32, quantise_tables, refuse_large
from exporters.quantise.observe import watched
from exporters.quantise.rounding import nearest_columns
from exporters.quantise.schemes import Scheme

Floats = NDArray[np.float32]
Feeds = Mapping[str, NDArray[Any]]
"""Inputs of a run, by name."""

EVENING = 0.75
"""Share of a channel's size that moves into the weights, as an exponent; 0.7 and 0.8 do as well."""
LEVELS = 255
BELOW = 16
"""Levels for what Gelu gives below 0."""
GELU_LEAST = 0.17
SMALLEST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Range:
    """What was seen of rows [n, K]: each channel's least and greatest."""

    least: Floats
    greatest: Floats


def quantise_rows(
    graph: Graph, scheme: Scheme, feeds: Sequence[Feeds], *, kept: Collection[str] = ()
) -> dict[str, int]:
    """Quantise the encoder `graph` in place, with ranges from what it makes of `feeds`; what stays
    fp32, as kind -> bytes, among it the weights that are to be `kept`.

    Raises:
        Refused: a large matrix is multiplied in a way that has no quantised form.
    """
    found = [one for one in projections(graph) if one.weight not in kept]
    ranges = _ranges(graph, [projection.source for projection in found], feeds)
    made = graph.producers()
    rewriting = _Rewriting(graph)
    for projection in found:
        seen, maker = ranges[projection.source], made[projection.source]
        if maker.op_type == "Gelu":
            rewriting.by_row(projection)
        elif maker.op_type == "LayerNormalization":
            rewriting.after_norm(projection, seen, maker)
        else:
            rewriting.fixed(projection, seen)
    quantise_tables(graph, scheme)
    graph.prune()
    refuse_large(graph, meant=kept)
    return kept_fp32(graph)


def _ranges(graph: Graph, values: Iterable[str], feeds: Iterable[Feeds]) -> dict[str, Range]:
    """What is seen of each of `values` while `graph` reads `feeds`, one at a time."""
    seen: dict[str, Range] = {}
    for found in watched(graph, sorted(set(values)), feeds):
        for name, rows in found.items():
            seen[name] = _joined(seen.get(name), rows)
    return seen


def _joined(before: Range | None, rows: Floats) -> Range:
    least, greatest = rows.min(0), rows.max(0)
    if before is not None:
        least = np.minimum(least, before.least)
        greatest = np.maximum(greatest, before.greatest)
    return Range(least=least, greatest=greatest)


class _Rewriting:
    """Puts integer products in the place of projections."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def fixed(self, projection: Projection, seen: Range) -> None:
        """A product of rows that have one scale for all."""
        self._product(projection, projection.source, seen, before=[])

    def after_norm(self, projection: Projection, seen: Range, norm: NodeProto) -> None:
        """A product of a norm's rows, evened out by a norm of the same sums with gains divided by
        `factors`; the product's weights are multiplied by them."""
        graph, evened = self._graph, f"{projection.multiply.name}/evened"
        weight = graph.weights[projection.weight]
        factors = evening(np.maximum(-seen.least, seen.greatest), np.abs(weight).max(1))
        second = NodeProto()
        second.CopyFrom(norm)
        second.name, second.output[0] = evened, evened
        for at, part in ((1, "gain"), (2, "shift")):
            kept = graph.weights[norm.input[at]] / factors
            second.input[at] = graph.constant(f"{evened}/{part}", kept)
        graph.weights[projection.weight] = weight * factors[:, None]
        scaled = Range(least=seen.least / factors, greatest=seen.greatest / factors)
        self._product(projection, evened, scaled, before=[second])

    def by_row(self, projection: Projection) -> None:
        """A product of rows that Gelu gave, each with a scale by its greatest number."""
        graph, name = self._graph, projection.multiply.name
        axis = graph.constant("w8a8/last_axis", np.array([-1]))
        floor = np.array(GELU_LEAST * (LEVELS - BELOW) / BELOW, np.float32)
        least = graph.constant("w8a8/least", floor)
        scale = graph.constant("w8a8/scale", np.array(1 / (LEVELS - BELOW), np.float32))
        zero = graph.constant("w8a8/zero", np.array(BELOW, np.uint8))
        top, size, row, rows, unit, scaled = (
            f"{name}/{part}" for part in ("top", "size", "row", "rows", "unit", "scaled")
        )
        nodes = [
            helper.make_node("ReduceMax", [projection.source, axis], [top], name=top),
            helper.make_node("Max", [top, least], [size], name=size),
            helper.make_node("Div", [projection.source, size], [row], name=row),
            helper.make_node("QuantizeLinear", [row, scale, zero], [rows], name=rows),
            self._integers(projection, [rows, scale, zero], output=unit),
            helper.make_node("Mul", [unit, size], [scaled], name=scaled),
        ]
        last = [scaled, *([projection.bias] if projection.bias is not None else [])]
        kind = "Add" if len(last) == 2 else "Identity"
        nodes.append(helper.make_node(kind, last, [projection.output], name=f"{name}/biased"))
        self._put(projection, nodes)

    def _product(
        self, projection: Projection, source: str, seen: Range, before: list[NodeProto]
    ) -> None:
        graph, name = self._graph, projection.multiply.name
        step, zero_point = levels(float(seen.least.min()), float(seen.greatest.max()))
        scale = graph.constant(f"{name}/scale", step)
        zero = graph.constant(f"{name}/zero", zero_point)
        rows = f"{name}/rows"
        nodes = [
            *before,
            helper.make_node("QuantizeLinear", [source, scale, zero], [rows], name=rows),
            self._integers(
                projection,
                [rows, scale, zero],
                bias=projection.bias,
                output=projection.output,
            ),
        ]
        self._put(projection, nodes)

    def _integers(
        self,
        projection: Projection,
        rows: list[str],
        *,
        output: str,
        bias: str | None = None,
    ) -> NodeProto:
        """The product of quantised rows, their scale and zero point, with the weights."""
        graph, name = self._graph, projection.multiply.name
        columns = nearest_columns(np.asarray(graph.weights[projection.weight]))
        values, scale, zero = rows
        inputs = [
            values,
            graph.constant(f"{name}/q", columns.q),
            scale,
            graph.constant(f"{name}/scales", columns.scales),
            zero,
            *(["", bias] if bias is not None else []),
        ]
        return helper.make_node(
            "MatMulIntegerToFloat", inputs, [output], name=name, domain=MICROSOFT
        )

    def _put(self, projection: Projection, nodes: list[NodeProto]) -> None:
        self._graph.replace(projection.multiply, *nodes)
        self._graph.nodes = [node for node in self._graph.nodes if node is not projection.add]


def evening(sizes: Floats, weights: Floats) -> Floats:
    """Factors [K] that channels of these greatest sizes are divided by, and rows of a matrix with
    these greatest weights multiplied; their geometric mean is 1."""
    sizes, weights = np.maximum(sizes, SMALLEST), np.maximum(weights, SMALLEST)
    factors = sizes**EVENING / weights ** (1 - EVENING)
    return np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)


def levels(least: float, greatest: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The step between levels that reach from `least` to `greatest`, and the level of 0."""
    least, greatest = min(least, 0.0), max(greatest, 0.0)
    step = max(greatest - least, SMALLEST) / LEVELS
    return np.array(step, np.float32), np.array(round(-least / step), np.uint8)
