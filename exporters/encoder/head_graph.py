"""The fp32 graph of a headed encoder, built of its weights: token ids in, logits out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from exporters.encoder.graph import KINDS, TEXTS, EncoderBuilder, has_kinds
from exporters.graph.building import Floats
from exporters.graph.graph import MICROSOFT, Graph
from exporters.model.encoder import EncoderShape
from nsedge.bundle.headed import AnyHead, HeadIo, MaskedLm, SequenceClassification

HEAD = "head/"
"""How the names of weights begin that stay fp32: a head for labels is small, and its product is not
where time goes."""
PLACES = "places"
CLASSIFIER = "classifier"


def head_io(head: AnyHead, *, kinds: bool) -> HeadIo:
    """What the graph of a head reads; `kinds`: whether that of the segments, too."""
    return HeadIo(
        token_type_ids=KINDS if kinds else None,
        places=PLACES if isinstance(head, MaskedLm) else None,
    )


def build_headed(
    shape: EncoderShape, head: AnyHead, weights: Mapping[str, Floats]
) -> tuple[Graph, HeadIo]:
    """The graph of `weights`, by their names without the model's prefix; what it reads and gives.

    Raises:
        KeyError: a weight is missing.
    """
    builder = _HeadBuilder(shape, head, weights)
    builder.end(builder.body())
    return builder.headed(), builder.io


class _HeadBuilder(EncoderBuilder):
    def __init__(self, shape: EncoderShape, head: AnyHead, weights: Mapping[str, Floats]) -> None:
        super().__init__(shape, weights)
        self._head = head
        self.io = head_io(head, kinds=has_kinds(shape, weights))

    def end(self, stream: str) -> None:
        """The head behind the layers' rows [N, H]."""
        if isinstance(self._head, MaskedLm):
            logits = self._masked(stream)
        elif isinstance(self._head, SequenceClassification):
            logits = self._sequence(stream)
        else:
            rows = self._label(CLASSIFIER, stream)
            last = self._keep("labels", np.array([len(self._head.labels)]))
            shape = self._add("Concat", "label_shape", [self._tokens(), last], axis=0)
            logits = self._add("Reshape", "labelled", [rows, shape])
        self._add("Identity", "logits/out", [logits], self.io.logits)

    def headed(self) -> Graph:
        """All of it."""
        output = head_output(self.io, self._head, self._shape.vocabulary)
        return self._built(head_inputs(self.io), [output])

    def _masked(self, stream: str) -> str:
        """Logits [P, V] of the rows that are wanted."""
        names = self._shape.family.masked
        if names is None:
            raise ValueError("a traced family has no names of heads")
        rows = self._add("Gather", "masked", [stream, PLACES], axis=0)
        inner = self._linear(names.dense, rows)
        inner = self._add("Gelu", f"{names.dense}/gelu", [inner], domain=MICROSOFT)
        return self._linear(names.decoder, self._normed(names.norm, inner))

    def _sequence(self, stream: str) -> str:
        """Logits [B, L] of each text's first row."""
        names = self._shape.family.sequence
        if names is None:
            raise ValueError("a traced family has no names of heads")
        first = self._first(self._add("Reshape", "states", [stream, TEXTS.format(1)]))
        inner = self._label(names.dense, first)
        domain = {"domain": MICROSOFT} if names.activation == "Gelu" else {}
        inner = self._add(names.activation, f"{HEAD}activation", [inner], **domain)
        return self._label(names.out, inner)

    def _label(self, name: str, value: str) -> str:
        """`value` times a linear map of the head, and its bias."""
        weight, bias = self._source[f"{name}.weight"].T, self._source[f"{name}.bias"]
        kept = self._keep(f"{HEAD}{name}.weight", np.ascontiguousarray(weight))
        product = self._add("MatMul", f"{HEAD}{name}", [value, kept])
        return self._add(
            "Add", f"{HEAD}{name}+bias", [product, self._keep(f"{HEAD}{name}.bias", bias)]
        )

    def _tokens(self) -> str:
        """[B, T]."""
        return "texts/out"


def head_inputs(io: HeadIo) -> list[ValueInfoProto]:
    """What the graph reads."""
    texts = ["texts", "tokens"]
    names = [io.input_ids, io.attention_mask, *([io.token_type_ids] if io.token_type_ids else [])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, texts) for name in names]
    if io.places is not None:
        inputs.append(helper.make_tensor_value_info(io.places, TensorProto.INT64, ["places"]))
    return inputs


def head_output(io: HeadIo, head: AnyHead, vocabulary: int) -> ValueInfoProto:
    """What it gives."""
    if isinstance(head, MaskedLm):
        shape: list[str | int] = ["places", vocabulary]
    elif isinstance(head, SequenceClassification):
        shape = ["texts", len(head.labels)]
    else:
        shape = ["texts", "tokens", len(head.labels)]
    return helper.make_tensor_value_info(io.logits, TensorProto.FLOAT, shape)
