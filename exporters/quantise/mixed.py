"""4-bit blocks where they harm least, 8-bit ones elsewhere, within a budget.

Each matrix is rounded to 4 bits, its rows making up for errors, and its sensitivity is the share of
its output's energy that is error then, over calibration texts whose tokens all count alike. In that
order matrices go to 4 bits, as many as the budget allows: mean KL to fp32 over the same texts, of
the whole graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporters.graph.graph import Graph
from exporters.graph.pack import Projection, projections
from exporters.graph.records import GRAPH_FILE
from exporters.measure.fidelity import divergence
from exporters.measure.runner import Runner
from exporters.quantise.blocks import (
    Blocks,
    kept_fp32,
    pairs,
    put_blocks,
    quantise_blocks,
    quantise_tables,
    refuse_large,
)
from exporters.quantise.observe import Calibration, second_moments
from exporters.quantise.rounding import carry_errors
from exporters.quantise.schemes import Scheme

LEVELS = 15
JUDGED_TOKENS = 96
"""Of each calibration passage, for the budget."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Choice:
    """A matrix in both forms, and the share of its output's energy that 4 bits turn to error."""

    projection: Projection
    width: int
    small: Blocks
    large: Blocks
    sensitivity: float


def quantise_mixed(graph: Graph, scheme: Scheme, calibration: Calibration) -> dict[str, int]:
    """Quantise `graph` in place, within the scheme's budget; what stays fp32, as kind -> bytes.

    Raises:
        Refused: a large matrix is multiplied in a way that has no quantised form.
    """
    judge = _Judge(graph, calibration)
    sources = [projection.source for projection in projections(graph)]
    moments = second_moments(graph, sources, calibration, alike=True)
    quantise_tables(graph, scheme)
    choices = [
        _choice(graph, projection, moments[projection.source], scheme.block)
        for projection in list(projections(graph))
        if projection.output not in graph.output_names()
    ]
    _put_head(graph, scheme)
    choices.sort(key=lambda choice: (choice.sensitivity, choice.projection.multiply.name))
    low, high = 0, len(choices)
    while low < high:
        count = (low + high + 1) // 2
        if judge.divergence(_chosen(graph, choices, count, scheme.block)) <= scheme.budget:
            low = count
        else:
            high = count - 1
    best = _chosen(graph, choices, low, scheme.block)
    graph.nodes, graph.weights = best.nodes, best.weights
    refuse_large(graph)
    return kept_fp32(graph)


def round_blocks(weight: Array, moments: Array, block: int) -> tuple[Blocks, Array]:
    """`weight` [K, N] in 4-bit blocks along K, and the matrix that they stand for, [K, N]."""
    width, columns = weight.shape
    count = -(-width // block)
    padded = np.zeros((count * block, columns), np.float32)
    padded[:width] = weight
    parts = padded.reshape(count, block, columns)
    low, high = np.minimum(parts.min(1), 0), np.maximum(parts.max(1), 0)
    steps = np.maximum(high - low, np.finfo(np.float32).tiny * 128) / np.float32(LEVELS)
    zeros = np.clip(np.rint(-low / steps), 0, LEVELS)
    q = np.empty((count * block, columns), np.uint8)
    q[width:] = zeros[-1]
    made = np.empty(weight.shape, np.float32)

    def nearest(row: int, values: Array) -> Array:
        step, zero = steps[row // block], zeros[row // block]
        q[row] = np.clip(np.rint(values / step) + zero, 0, LEVELS)
        made[row] = (q[row] - zero) * step
        return made[row]

    carry_errors(weight.copy(), moments, nearest)
    nibbles = np.ascontiguousarray(q.T).reshape(columns, count, block)
    packed_zeros = pairs(np.ascontiguousarray(zeros.T).astype(np.uint8))
    return Blocks(pairs(nibbles), np.ascontiguousarray(steps.T), packed_zeros), made


def _choice(graph: Graph, projection: Projection, moments: Array, block: int) -> _Choice:
    weight = np.ascontiguousarray(graph.weights[projection.weight])
    small, made = round_blocks(weight, moments, block)
    error = weight - made
    sensitivity = float(np.vdot(error, moments @ error) / np.vdot(weight, moments @ weight))
    large = quantise_blocks(np.ascontiguousarray(weight.T), bits=8, block=block)
    return _Choice(projection, len(weight), small, large, sensitivity)


def _put_head(graph: Graph, scheme: Scheme) -> None:
    """A head of its own takes the table's bits and block."""
    for projection in list(projections(graph)):
        if projection.output in graph.output_names():
            weight = np.ascontiguousarray(graph.weights.pop(projection.weight).T)
            bits, block = scheme.table_bits or 8, scheme.table_block
            blocks = quantise_blocks(weight, bits=bits, block=block)
            put_blocks(graph, projection, blocks, bits=bits, block=block, width=weight.shape[1])


def _chosen(graph: Graph, choices: Sequence[_Choice], count: int, block: int) -> Graph:
    """A copy of `graph` with the first `count` matrices in 4 bits and the others in 8."""
    made = Graph(
        nodes=list(graph.nodes),
        inputs=graph.inputs,
        outputs=graph.outputs,
        weights=dict(graph.weights),
    )
    for place, choice in enumerate(choices):
        bits, blocks = (4, choice.small) if place < count else (8, choice.large)
        put_blocks(made, choice.projection, blocks, bits=bits, block=block, width=choice.width)
    made.prune()
    return made


class _Judge:
    """Mean KL of graphs to the fp32 one over the beginnings of the calibration texts."""

    def __init__(self, reference: Graph, calibration: Calibration) -> None:
        self._calibration = calibration
        self._texts = [list(ids)[:JUDGED_TOKENS] for ids in calibration.passages]
        self._wanted = self._read(reference)

    def divergence(self, graph: Graph) -> float:
        """In nats, over all positions."""
        found = self._read(graph)
        rows = zip(np.concatenate(self._wanted), np.concatenate(found), strict=True)
        return float(np.mean([divergence(wanted, got) for wanted, got in rows]))

    def _read(self, graph: Graph) -> list[Array]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / GRAPH_FILE
            graph.save(path)
            io, kv = self._calibration.io, self._calibration.kv
            runner = Runner(path, io=io, kv=kv, capacity=JUDGED_TOKENS)
            return [runner.log_probs(ids) for ids in self._texts]
