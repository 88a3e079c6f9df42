"""What flows through a graph while it reads a text: second moments of chosen values."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporters.graph.graph import Graph
from exporters.graph.records import GRAPH_FILE
from exporters.measure.runner import ERRORS_ONLY
from nsedge.bundle.causal_lm import GraphIo, KvLayout

MOST_TOKENS = 512
"""Of each passage: all values of all of them are held at once."""
SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Texts to calibrate with, as token ids, and how a graph is run over them."""

    passages: Sequence[Sequence[int]]
    io: GraphIo
    kv: KvLayout


def second_moments(
    graph: Graph, values: Iterable[str], calibration: Calibration, *, alike: bool = False
) -> dict[str, NDArray[np.float32]]:
    """The mean of x x^T [K, K] over all tokens, for each of `values` [B, S, K] in `graph`.

    alike: each x is divided by its root mean square first, so that no token counts for many.
    """
    sums: dict[str, Any] = dict.fromkeys(values, 0.0)
    tokens = 0
    passages = (np.array([list(ids)[:MOST_TOKENS]], np.int64) for ids in calibration.passages)
    feeds = (_feeds(ids, calibration) for ids in passages)
    for found in watched(graph, tuple(sums), feeds):
        for name, rows in found.items():
            if alike:
                rows = rows / np.sqrt((rows * rows).mean(-1, keepdims=True) + SMALLEST)
            sums[name] = sums[name] + rows.T @ rows
        tokens += len(rows)
    return {name: np.asarray(total / tokens, np.float32) for name, total in sums.items()}


def watched(
    graph: Graph, values: Sequence[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Rows [tokens, K] of each of `values` [.., K] in `graph`, for each of `feeds`."""
    with tempfile.TemporaryDirectory() as folder:
        session = _open(graph, values, Path(folder))
        for one in feeds:
            found = zip(values, session.run(list(values), dict(one)), strict=True)
            yield {name: rows.reshape(-1, rows.shape[-1]) for name, rows in found}


def _open(graph: Graph, values: Sequence[str], folder: Path) -> Any:
    """A session of `graph` that can be asked for `values` too."""
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values]
    watched = Graph(
        nodes=graph.nodes,
        inputs=graph.inputs,
        outputs=[*graph.outputs, *shown],
        weights=graph.weights,
    )
    watched.save(folder / GRAPH_FILE)
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    path = str(folder / GRAPH_FILE)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feeds(ids: NDArray[np.int64], calibration: Calibration) -> dict[str, NDArray[Any]]:
    """Inputs that read `ids` [1, Q] from empty caches."""
    io, kv, length = calibration.io, calibration.kv, ids.shape[1]
    empty = np.zeros((1, kv.heads, length, kv.head_dim), kv.dtype)
    feeds: dict[str, NDArray[Any]] = {
        io.input_ids: ids,
        io.seqlens_k: np.array([length - 1], np.int32),
        io.total_sequence_length: np.array(length, np.int32),
        io.kept_positions: np.arange(length),
    }
    if io.position_ids is not None:
        leading = (1,) if io.position_axes == 1 else (io.position_axes, 1)
        feeds[io.position_ids] = np.ascontiguousarray(
            np.broadcast_to(np.arange(length), (*leading, length))
        )
    for layer in range(kv.layers):
        feeds[io.past_key.format(layer=layer)] = empty
        feeds[io.past_value.format(layer=layer)] = empty
    return feeds
