"""Models with a head: they label texts or their tokens, score pairs, or fill masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nsedge.api import (
    Activation,
    Aggregation,
    Classify,
    Fill,
    Filling,
    Label,
    Media,
    Request,
    Score,
)
from nsedge.api.labels import Text
from nsedge.bundle.headed import (
    GoldenScores,
    HeadedEncoder,
    HeadVariant,
    MaskedLm,
    SequenceClassification,
    TokenClassification,
)
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.encode.embed_work import ScoreWork
from nsedge.runtime.encode.found_work import FillWork, LabelWork
from nsedge.runtime.encode.work import EncodeWork
from nsedge.runtime.graph.headed import HeadSession
from nsedge.runtime.hosting.encoding import EncodeModel, wanted_variant
from nsedge.runtime.hosting.golden_scores import activated, activation_of, judge, reading_of
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.text.reader import DOCUMENTS
from nsedge.runtime.text.segments import MaskReader, Reading, SegmentReader
from nsedge.runtime.text.spans import SpanFinder, softmax

Floats = NDArray[np.float32]
HeadedBundle = Bundle[HeadedEncoder]


class HeadedModel(EncodeModel[HeadedEncoder, HeadSession]):
    """A headed encoder in memory, with its loop."""

    variant: HeadVariant

    def open_session(self, bundle: Bundle[Any], threads: int) -> HeadSession:
        """Open the graph and the tokenizer."""
        manifest = self.manifest
        head = manifest.head
        self._tokenizer = read_tokenizer(bundle.file(manifest.tokenizer.file))
        self._make: Callable[[Request, float], EncodeWork]
        if isinstance(head, MaskedLm):
            self._make = self._filling(head)
        elif isinstance(head, SequenceClassification):
            self._make = self._classifying(head)
        else:
            self._make = self._labelling(head)
        return HeadSession(
            bundle.file(self.variant.graph),
            self.variant,
            threads=threads,
            pad_id=manifest.pad_token_id,
            head=head,
            vocab_size=manifest.vocab_size,
        )

    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Hold the scores of golden texts to those of fp32."""
        golden = bundle.golden(self.manifest.tasks[0], GoldenScores)
        logits = self.session.run([reading_of(sample) for sample in golden])
        judge(logits, golden, head=self.manifest.head, variant=self.variant, name=bundle.name)

    def input_of(self, ids: list[int]) -> Reading:
        """A text of these tokens, one of them a mask."""
        places = (0,) if isinstance(self.manifest.head, MaskedLm) else ()
        return Reading(ids=tuple(ids), places=places)

    def work_of(self, request: Request, submitted_s: float) -> EncodeWork:
        """Read a request's texts; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for what this head does not do.
            InvalidParameter: a field that says nothing to this head, or a text without a mask.
            ContextExceeded: a text is too long.
        """
        if request.task.name not in self.manifest.tasks:
            raise UnsupportedTask(f"this model does not {request.task.name}", param="model")
        return self._make(request, submitted_s)

    def _segments(self) -> SegmentReader:
        return SegmentReader(self._tokenizer, context_length=self.manifest.context_length)

    def _filling(self, head: MaskedLm) -> Callable[[Request, float], EncodeWork]:
        tokenizer = self._tokenizer  # a function of `self` in `self` would keep the model
        reader = MaskReader(
            tokenizer,
            mask=head.mask,
            mask_id=head.mask_token_id,
            context_length=self.manifest.context_length,
        )

        def make(request: Request, submitted_s: float) -> EncodeWork:
            task = _task(request, Fill)
            return FillWork(
                request=request,
                inputs=reader.read(task.inputs),
                find=lambda _, logits: _fillings(tokenizer, logits, task.top_k),
                submitted_s=submitted_s,
            )

        return make

    def _classifying(self, head: SequenceClassification) -> Callable[[Request, float], EncodeWork]:
        reader = self._segments()

        def make(request: Request, submitted_s: float) -> EncodeWork:
            if isinstance(request.task, Score):
                asked = request.task
                pairs = [(asked.query, document) for document in asked.documents]
                return ScoreWork(
                    request=request,
                    inputs=reader.read(pairs, truncate=asked.truncate, naming=DOCUMENTS),
                    activated=lambda logits: activated(logits, head.activation),
                    submitted_s=submitted_s,
                )
            task = _task(request, Classify)
            if task.aggregation is not None:
                raise InvalidParameter(
                    "aggregation is for models that label tokens", param="aggregation"
                )
            activation = activation_of(head) if task.activation is None else task.activation
            top_k = task.top_k or len(head.labels)
            return LabelWork(
                request=request,
                inputs=reader.read(_texts(task), truncate=task.truncate),
                find=lambda _, logits: _labels(head, logits, activation, top_k),
                submitted_s=submitted_s,
            )

        return make

    def _labelling(self, head: TokenClassification) -> Callable[[Request, float], EncodeWork]:
        reader = self._segments()
        finder = SpanFinder(
            self._tokenizer,
            labels=head.labels,
            outside=head.outside,
            unknown=self.manifest.tokenizer.unk_token,
        )

        def make(request: Request, submitted_s: float) -> EncodeWork:
            task = _task(request, Classify)
            for param, value in (("top_k", task.top_k), ("activation", task.activation)):
                if value is not None:
                    raise InvalidParameter(
                        f"{param} is for models that label whole texts", param=param
                    )
            texts = [text for text in _texts(task) if isinstance(text, str)]
            if len(texts) != len(task.inputs):
                raise InvalidParameter("tokens are labelled in one text, not two", param="inputs")
            wanted = task.aggregation or Aggregation.SIMPLE
            readings = reader.read(texts, truncate=task.truncate)
            return LabelWork(
                request=request,
                inputs=readings,
                find=lambda at, logits: finder.find(texts[at], readings[at], logits, wanted),
                submitted_s=submitted_s,
            )

        return make


T = TypeVar("T")


def _task(request: Request, kind: type[T]) -> T:
    """The task of a request, known to be one that this head does."""
    if not isinstance(request.task, kind):
        raise UnsupportedTask(f"this model does not {request.task.name}", param="model")
    return request.task


def _texts(task: Classify) -> tuple[Text, ...]:
    """The inputs of a task, for the model's own labels.

    Raises:
        UnsupportedTask: there are media among them.
        InvalidParameter: the labels are to be others.
    """
    texts = tuple(one for one in task.inputs if not isinstance(one, Media))
    if len(texts) < len(task.inputs):
        raise UnsupportedTask("this model reads texts, and takes no media", param="inputs")
    if task.labels:
        raise InvalidParameter(
            "this model has labels of its own, and takes no others", param="labels"
        )
    return texts


def _fillings(tokenizer: Tokenizer, logits: Floats, top_k: int) -> tuple[tuple[Filling, ...], ...]:
    """The likeliest tokens of each mask, of logits [masks, vocabulary]."""
    return tuple(
        tuple(
            Filling(
                token_id=token,
                token=tokenizer.decode([token], skip_special_tokens=False),
                score=float(scores[token]),
            )
            for token in best(scores, top_k)
        )
        for scores in softmax(logits)
    )


def _labels(
    head: SequenceClassification, logits: Floats, activation: Activation, top_k: int
) -> tuple[Label, ...]:
    scores = activated(logits, activation)
    return tuple(
        Label(label=head.labels[at], score=float(scores[at])) for at in best(scores, top_k)
    )


def best(scores: Floats, count: int) -> list[int]:
    """The `count` highest of scores [n], from the highest on; equal ones in their order."""
    count = min(count, len(scores))
    among = np.argpartition(-scores, count - 1)[:count]
    least = scores[among].min()
    among = np.flatnonzero(scores >= least)
    return [int(at) for at in among[np.argsort(-scores[among], kind="stable")][:count]]


def open_headed(bundle: HeadedBundle, host: Host, opening: Opening) -> HeadedModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden scores do not
            come.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = wanted_variant(bundle, host.settings)
    return HeadedModel(bundle=bundle, variant=variant, host=host, opening=opening)
