"""The fp32 graph of an encoder whose layers are not BERT's: PyTorch's own trace of it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import helper

from exporters.encoder.graph import IO, KINDS
from exporters.encoder.head_graph import HEAD, PLACES, head_inputs, head_io, head_output
from exporters.graph.graph import OPSET, Graph, attribute
from exporters.model.encoder import EncoderShape
from exporters.trace.quiet import quiet
from nsedge.bundle.encoder import EncoderIo
from nsedge.bundle.headed import AnyHead, HeadIo, MaskedLm

RAW_FILE = "raw.onnx"
EXAMPLE = (2, 11)
"""Texts and tokens of what is traced: other sizes give the same graph."""


def trace_graph(model: Any, shape: EncoderShape) -> tuple[Graph, EncoderIo | HeadIo]:
    """The graph of `model`, and what it reads and gives.

    Raises:
        Exception: whatever the model's own code raises while it is traced.
    """
    head = shape.head
    kinds = head is not None and getattr(model.config, "type_vocab_size", 0) > 1
    io = IO if head is None else head_io(head, kinds=kinds)
    wrapped = _Vectors(model, shape) if head is None else _Headed(model, head, kinds=kinds)
    names = [io.input_ids, io.attention_mask]
    ids = torch.randint(1, shape.vocabulary, EXAMPLE)
    mask = torch.ones(EXAMPLE, dtype=torch.int64)
    mask[0, 7:] = 0
    example = [ids, mask]
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    if isinstance(io, HeadIo) and io.token_type_ids:
        names.append(KINDS)
        example.append(torch.zeros(EXAMPLE, dtype=torch.int64))
        axes[KINDS] = {0: "texts", 1: "tokens"}
    if isinstance(io, HeadIo) and io.places:
        names.append(PLACES)
        example.append(torch.tensor([1, 5, 12]))
        axes[PLACES] = {0: "places"}
    output = io.embedding if isinstance(io, EncoderIo) else io.logits
    return _export(wrapped, example, names, output, axes, shape), io


def _export(
    wrapped: Any,
    example: list[Any],
    names: list[str],
    output: str,
    axes: dict[str, dict[int, str]],
    shape: EncoderShape,
) -> Graph:
    raw = Path(tempfile.mkdtemp())
    try:
        with torch.no_grad(), quiet():
            torch.onnx.export(
                wrapped.eval(),
                tuple(example),
                str(raw / RAW_FILE),
                input_names=names,
                output_names=[output],
                dynamic_axes={**axes, output: {0: "rows"}},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = Graph.load(raw / RAW_FILE)
        graph.weights = {name: np.array(array) for name, array in graph.weights.items()}
    finally:
        shutil.rmtree(raw)
    if shape.head is not None:
        io = head_io(shape.head, kinds=KINDS in names)
        graph.inputs, graph.outputs = (
            head_inputs(io),
            [head_output(io, shape.head, shape.vocabulary)],
        )
    unfold(graph, prefix="" if isinstance(shape.head, MaskedLm) else HEAD)
    return graph


def unfold(graph: Graph, *, prefix: str) -> None:
    """Products by a transposed matrix with a bias (Gemm) as a product and a sum, which have
    quantised forms; `prefix`: of their names."""
    for node in [one for one in graph.nodes if one.op_type == "Gemm"]:
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        if not plain or attribute(node, "transA", 0) or len(node.input) < 3:
            continue
        weight = graph.weights.get(node.input[1])
        if weight is None:
            continue
        if attribute(node, "transB", 0):
            weight = np.ascontiguousarray(weight.T)
        name = f"{prefix}{node.name}"
        kept = graph.constant(f"{name}.weight", weight)
        product = f"{name}/product"
        graph.replace(
            node,
            helper.make_node("MatMul", [node.input[0], kept], [product], name=name),
            helper.make_node("Add", [product, node.input[2]], list(node.output), name=f"{name}+b"),
        )
    graph.prune()


class _Vectors(torch.nn.Module):
    """A model's tokens pooled to vectors, as its shape says."""

    def __init__(self, model: Any, shape: EncoderShape) -> None:
        super().__init__()
        self._model = model
        self._shape = shape

    def forward(self, ids: Any, mask: Any) -> Any:
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self._shape.pooling == "cls":
            pooled = states[:, 0]
        elif self._shape.pooling == "last":
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
            pooled = states.gather(1, last)[:, 0]
        else:
            real = mask[..., None].to(states.dtype)
            pooled = (states * real).sum(1) / real.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._shape.normalised else pooled


class _Headed(torch.nn.Module):
    """A model's logits; of a masked LM those of some tokens."""

    def __init__(self, model: Any, head: AnyHead, *, kinds: bool) -> None:
        super().__init__()
        self._model = model
        self._masked = isinstance(head, MaskedLm)
        self._kinds = kinds

    def forward(self, ids: Any, mask: Any, *others: Any) -> Any:
        kinds = {KINDS: others[0]} if self._kinds else {}
        asked = {"input_ids": ids, "attention_mask": mask, **kinds}
        if not self._masked:
            return self._model(**asked).logits
        states = self._model.base_model(**asked).last_hidden_state
        rows = states.reshape(-1, states.shape[-1])[others[-1]]
        return masked_logits(self._model, rows)


def masked_logits(model: Any, rows: Any) -> Any:
    """What the head of a masked LM makes of rows [P, H]: [P, V]."""
    if hasattr(model, "cls"):
        return model.cls(rows)
    if hasattr(model, "lm_predictions"):
        return model.lm_predictions(rows, model.base_model.embeddings.word_embeddings)
    return model.decoder(model.head(rows))
