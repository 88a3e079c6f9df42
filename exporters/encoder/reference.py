"""The fp32 graph of an encoder's folder: built of its weights, and held to PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from exporters.encoder.graph import IO, build_graph
from exporters.encoder.records import EncoderRecord, session_of
from exporters.errors import ExportError
from exporters.graph.records import GRAPH_FILE
from exporters.model.encoder import EncoderShape, read_shape
from exporters.model.source import Source
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights

Floats = NDArray[np.float32]

MAX_DIFFERENCE = 1e-4
"""Of any number of a vector of length 1."""
CHECK_SEED = 21
CHECK_LENGTHS = (3, 23, 9, 3, 31, 1)
MOST_TOKENS = 512
"""Of the longest text that is compared; all are cut off at what the model reads."""
LAYERS = ("embeddings.", "encoder.", "transformer.")
"""How the names of weights begin that make vectors."""


def make_reference(source: Source, out: Path, *, max_context: int | None) -> None:
    """Write the fp32 graph, its weights and `EncoderRecord` to the directory `out`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: the graph does not compute what PyTorch does.
    """
    shape = read_shape(source, max_context=max_context)
    with quiet():
        model = load_weights(source, AutoModel, matters=makes_vectors)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    graph = build_graph(shape, weights)
    graph.save(out / GRAPH_FILE)
    record = EncoderRecord(
        io=IO,
        context_length=shape.context_length,
        vocab_size=shape.vocabulary,
        pad_token_id=shape.pad_id,
        dimensions=shape.hidden,
        pooling=shape.pooling,
        normalised=shape.normalised,
        nodes=dict(Counter(node.op_type for node in graph.nodes)),
        difference=0.0,
    )
    difference = compare(model, shape, session_of(out, record).run)
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the exported graph differs from PyTorch by {difference:.2g}")
    msgspec.structs.replace(record, difference=difference).write(out)


def compare(
    model: Any, shape: EncoderShape, run: Callable[[Sequence[Sequence[int]]], Floats]
) -> float:
    """The greatest difference between what `run` and eager PyTorch make of texts, in any number of
    vectors of length 1: of each text alone, and of all of them padded to one length."""
    random = np.random.default_rng(CHECK_SEED)
    known = np.delete(np.arange(shape.vocabulary), shape.pad_id)
    lengths = [min(length, shape.context_length) for length in (*CHECK_LENGTHS, MOST_TOKENS)]
    rows = [random.choice(known, length).tolist() for length in lengths]
    wanted = np.stack([vector_of(model, shape, row) for row in rows])
    found = [run(rows), np.concatenate([run([row]) for row in rows])]
    size = np.linalg.norm(wanted, axis=1, keepdims=True)
    return max(float(np.abs((vectors - wanted) / size).max()) for vectors in found)


def vector_of(model: Any, shape: EncoderShape, ids: Sequence[int]) -> Floats:
    """What eager PyTorch makes of one text [T], pooled and normalised as the model is: [H]."""
    with torch.no_grad(), quiet():
        states = model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
    pooled = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[shape.pooling]
    if shape.normalised:
        pooled = torch.nn.functional.normalize(pooled, dim=-1)
    vector: Floats = pooled.numpy()
    return vector


def makes_vectors(weight: str) -> bool:
    """Whether a weight has a part in it: those of heads have none, nor has the pooler before them,
    nor the numbers of positions that old files hold."""
    return weight.startswith(LAYERS) and not weight.endswith("position_ids")
