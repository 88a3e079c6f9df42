"""The fp32 graph of an encoder's folder: built of its weights or traced, and held to PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from exporters.encoder.graph import IO, build_graph
from exporters.encoder.head_graph import build_headed
from exporters.encoder.records import EncoderRecord, HeadSpec, VectorSpec, session_of
from exporters.encoder.traced import trace_graph
from exporters.errors import ExportError, Refused
from exporters.graph.graph import Graph
from exporters.graph.records import GRAPH_FILE
from exporters.model.encoder import EncoderShape, read_shape
from exporters.model.source import Source
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights
from nsedge.bundle.encoder import EncoderIo
from nsedge.bundle.headed import (
    AnyHead,
    HeadIo,
    MaskedLm,
    SequenceClassification,
    TokenClassification,
)
from nsedge.runtime.text.segments import Reading

Floats = NDArray[np.float32]

MAX_DIFFERENCE = 1e-4
"""Of any number of a vector of length 1; of any logit, by the greatest of its text, or by 1 where
all are less."""
CHECK_SEED = 21
CHECK_LENGTHS = (3, 23, 9, 3, 31, 1)
MOST_TOKENS = 512
"""Of the longest text that is compared; all are cut off at what the model reads."""
LAYERS = ("embeddings", "encoder.", "transformer.", "layers.", "final_norm.")
"""How the names of weights begin that make vectors."""
CLASSES: dict[type[AnyHead], Any] = {
    MaskedLm: AutoModelForMaskedLM,
    SequenceClassification: AutoModelForSequenceClassification,
    TokenClassification: AutoModelForTokenClassification,
}


def make_reference(source: Source, out: Path, *, max_context: int | None) -> None:
    """Write the fp32 graph, its weights and `EncoderRecord` to the directory `out`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: the graph does not compute what PyTorch does.
    """
    shape = read_shape(source, max_context=max_context)
    with quiet():
        model = load(source, shape)
    graph, io = _graph(model, shape)
    graph.save(out / GRAPH_FILE)
    record = EncoderRecord(
        gives=_spec(shape, io),
        context_length=shape.context_length,
        vocab_size=shape.vocabulary,
        pad_token_id=shape.pad_id,
        nodes=dict(Counter(node.op_type for node in graph.nodes)),
        difference=0.0,
    )
    difference = compare(model, shape, session_of(out, record).run)
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the exported graph differs from PyTorch by {difference:.2g}")
    msgspec.structs.replace(record, difference=difference).write(out)


def load(source: Source, shape: EncoderShape) -> Any:
    """The model in PyTorch, with the head that its shape has.

    Raises:
        Refused: transformers cannot build it, or not of these weights.
    """
    if shape.head is None:
        return load_weights(source, AutoModel, matters=makes_vectors)
    pooled = isinstance(shape.head, SequenceClassification)
    matters = partial(makes_scores, pooled=pooled)
    return load_weights(source, CLASSES[type(shape.head)], matters=matters)


def _graph(model: Any, shape: EncoderShape) -> tuple[Graph, EncoderIo | HeadIo]:
    if shape.family.traced:
        try:
            return trace_graph(model, shape)
        except Exception as error:  # whatever a model's own code raises while it is traced
            raise Refused(f"{type(model).__name__} cannot be traced: {error}") from error
    prefix = f"{shape.family.prefix}."
    weights = {
        name.removeprefix(prefix): tensor.detach().numpy()
        for name, tensor in model.state_dict().items()
    }
    if shape.head is None:
        return build_graph(shape, weights), IO
    return build_headed(shape, shape.head, weights)


def _spec(shape: EncoderShape, io: EncoderIo | HeadIo) -> VectorSpec | HeadSpec:
    if shape.head is not None and isinstance(io, HeadIo):
        return HeadSpec(io=io, head=shape.head)
    if not isinstance(io, EncoderIo):
        raise TypeError("a graph of vectors has no logits")
    return VectorSpec(
        io=io, dimensions=shape.hidden, pooling=shape.pooling, normalised=shape.normalised
    )


def compare(model: Any, shape: EncoderShape, run: Callable[[Any], Iterable[Floats]]) -> float:
    """The greatest difference between what `run` and eager PyTorch make of texts, as
    `EncoderRecord` has it: of each text alone, and of all of them padded to one length."""
    random = np.random.default_rng(CHECK_SEED)
    known = np.delete(np.arange(shape.vocabulary), shape.pad_id)
    lengths = [min(length, shape.context_length) for length in (*CHECK_LENGTHS, MOST_TOKENS)]
    texts = [random.choice(known, length).tolist() for length in lengths]
    rows: list[Any] = texts if shape.head is None else [_reading(ids, shape) for ids in texts]
    wanted = [_wanted(model, shape, row) for row in rows]
    worst = 0.0
    for found in (run(rows), [one for row in rows for one in run([row])]):
        for a, b in zip(wanted, found, strict=True):
            norm = float(np.linalg.norm(a))
            size = norm if shape.head is None else max(1.0, float(np.abs(a).max()))
            worst = max(worst, float(np.abs(a - b).max()) / size)
    return float(worst)


def _reading(ids: list[int], shape: EncoderShape) -> Reading:
    """A text, its second half a second text where there may be two, every third token judged."""
    pairs = isinstance(shape.head, SequenceClassification)
    places = tuple(range(0, len(ids), 3)) if isinstance(shape.head, MaskedLm) else ()
    return Reading(ids=tuple(ids), second=len(ids) // 2 if pairs else None, places=places)


def _wanted(model: Any, shape: EncoderShape, row: Any) -> Floats:
    if shape.head is None:
        return vector_of(model, shape, row)
    asked = {"input_ids": torch.tensor([list(row.ids)])}
    if row.second is not None and getattr(model.config, "type_vocab_size", 0) > 1:
        asked["token_type_ids"] = (torch.arange(len(row)) >= row.second).long()[None]
    with torch.no_grad(), quiet():
        logits: Floats = model(**asked).logits[0].numpy()
    return logits[list(row.places)] if isinstance(shape.head, MaskedLm) else logits


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


def makes_scores(weight: str, *, pooled: bool) -> bool:
    """The same of a model with a head: all but what other tasks of pre-training left, and a pooler
    where the head does not read what is `pooled`."""
    left = ("position_ids", "seq_relationship.weight", "seq_relationship.bias")
    return not weight.endswith(left) and (pooled or ".pooler." not in f".{weight}")
