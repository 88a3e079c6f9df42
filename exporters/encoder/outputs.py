"""What an encoder's graphs give, vectors or the scores of a head: how texts are read for it, what
is kept of golden ones, and how near two graphs are in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from exporters.encoder.records import AnyFidelity, AnySession, EncoderRecord, VectorSpec
from exporters.encoder.schemes import LEAST_COSINES, SCORE_LIMITS
from exporters.measure.thresholds import OF_SCORES, OF_VECTORS, Limits, Measure
from nsedge.api.labels import Text
from nsedge.bundle.encoder import Encoder, GoldenVector, VectorFidelity
from nsedge.bundle.headed import (
    AnyHead,
    GoldenRow,
    GoldenScores,
    HeadedEncoder,
    MaskedLm,
    ScoreFidelity,
    SequenceClassification,
)
from nsedge.runtime.hosting.golden_scores import (
    greatest_error,
    reading_of,
    rows_of,
)
from nsedge.runtime.text.reader import TextReader
from nsedge.runtime.text.segments import MAX_MASKS, MaskReader, Reading, SegmentReader

BATCH = 8
DIGITS = 7
"""Decimal places of what is kept; numbers are below 1 as a rule."""
KEPT_LABELS = 8
"""Of each golden row, the best ones."""
MASK_EVERY = 7
"""Of a text for a masked LM, every so many tokens become masks."""
SPARE = 16
"""Tokens that a text with masks may have above what it had."""

Floats = NDArray[np.float32]


class Output(ABC):
    """One kind of what graphs give."""

    task: str
    """Of its golden samples."""
    measures: frozenset[Measure]
    golden_measure: Measure
    fidelity_type: type[AnyFidelity]
    sample_type: type[Any]

    @abstractmethod
    def read(self, texts: Sequence[str]) -> list[Any]:
        """What a session takes of texts."""

    @abstractmethod
    def golden(self, texts: Sequence[str], session: AnySession) -> tuple[Any, ...]:
        """Golden samples: what `session` makes of texts."""

    @abstractmethod
    def nearness(self, session: AnySession, samples: Sequence[Any]) -> float:
        """How near `session` comes to golden samples, as `golden_measure` has it."""

    @abstractmethod
    def fidelity(self, pairs: Iterable[tuple[Floats, Floats]], digest: str) -> AnyFidelity:
        """How near what was found is to what was wanted: of each text a pair, the wanted one
        first, over texts by `digest`."""

    @abstractmethod
    def promised(self, scheme: str) -> Limits:
        """What is promised of a scheme."""

    def compared(
        self, exact: AnySession, session: AnySession, rows: Sequence[Any], digest: str
    ) -> AnyFidelity:
        """How near `session` is to `exact` over rows, which are texts by `digest`."""
        begins = range(0, len(rows), BATCH)
        batches = (rows[at : at + BATCH] for at in begins)
        pairs = (
            pair
            for batch in batches
            for pair in zip(exact.run(batch), session.run(batch), strict=True)
        )
        return self.fidelity(pairs, digest)

    def found(self, session: AnySession, rows: Sequence[Any]) -> list[Floats]:
        """What a session makes of rows, a few at a time as they come, so that short ones are
        padded."""
        begins = range(0, len(rows), BATCH)
        return [one for at in begins for one in session.run(rows[at : at + BATCH])]

    def encode(self, samples: Sequence[Any]) -> bytes:
        """Golden samples as a bundle has them."""
        return msgspec.json.format(msgspec.json.encode(samples), indent=1) + b"\n"

    def decode(self, samples: bytes) -> tuple[Any, ...]:
        """What `encode` gave."""
        kind: Any = tuple[self.sample_type, ...]  # type: ignore[name-defined]
        decoded: tuple[Any, ...] = msgspec.json.decode(samples, type=kind)
        return decoded


class VectorOutput(Output):
    """Vectors of texts."""

    task = "embed"
    measures = OF_VECTORS
    golden_measure = Measure.GOLDEN_COSINE
    fidelity_type = VectorFidelity
    sample_type = GoldenVector

    def __init__(self, tokenizer: Tokenizer, *, context_length: int, vocab_size: int) -> None:
        self._reader = TextReader(tokenizer, context_length=context_length, vocab_size=vocab_size)

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Token ids."""
        return list(self._reader.read(texts, truncate=True))

    def golden(self, texts: Sequence[str], session: AnySession) -> tuple[Any, ...]:
        """The vectors."""
        rows = self.read(texts)
        return tuple(
            GoldenVector(
                text=text, ids=tuple(row), vector=tuple(round(float(x), DIGITS) for x in vector)
            )
            for text, row, vector in zip(texts, rows, self.found(session, rows), strict=True)
        )

    def nearness(self, session: AnySession, samples: Sequence[Any]) -> float:
        """The least cosine."""
        found = np.stack(list(session.run([sample.ids for sample in samples])))
        wanted = np.array([sample.vector for sample in samples], np.float32)
        return round(float(cosines(wanted, found).min()), 6)

    def fidelity(self, pairs: Iterable[tuple[Floats, Floats]], digest: str) -> VectorFidelity:
        """Cosines."""
        wanted, found = map(np.stack, zip(*pairs, strict=True))
        near = cosines(wanted, found)
        return VectorFidelity(
            texts=len(near),
            cosine=round(float(near.mean()), 6),
            cosine_least=round(float(near.min()), 6),
            text_sha256=digest,
        )

    def promised(self, scheme: str) -> Limits:
        """The least cosine."""
        return vectors_promised(scheme)


class HeadOutput(Output):
    """Scores of labels, or of tokens for masks."""

    measures = OF_SCORES
    golden_measure = Measure.GOLDEN_ERROR
    fidelity_type = ScoreFidelity
    sample_type = GoldenScores

    def __init__(self, tokenizer: Tokenizer, head: AnyHead, *, context_length: int) -> None:
        self.task = head.tasks[0]
        self._head = head
        self._masks: MaskReader | None = None
        if isinstance(head, MaskedLm):
            self._masks = MaskReader(
                tokenizer,
                mask=head.mask,
                mask_id=head.mask_token_id,
                context_length=context_length,
            )
            context_length = max(context_length - SPARE, context_length // 2)
        self._reader = SegmentReader(tokenizer, context_length=context_length)

    def read(self, texts: Sequence[str]) -> list[Any]:
        """Tokens, of what `asked` makes of texts."""
        return list(self._readings(self.asked(texts)))

    def asked(self, texts: Sequence[str]) -> list[Text]:
        """What a model with this head is asked of texts: those themselves; with masks in them; or
        pairs, each text beside the one before it."""
        if isinstance(self._head, MaskedLm):
            rows = self._reader.read(texts, truncate=True)
            return [masked(*one, self._head.mask) for one in zip(texts, rows, strict=True)]
        if _scores_pairs(self._head):
            return list(zip([texts[-1], *texts], texts, strict=False))
        return list(texts)

    def _readings(self, asked: Sequence[Text]) -> list[Reading]:
        if self._masks is None:
            return self._reader.read(asked, truncate=True)
        return self._masks.read([one for one in asked if isinstance(one, str)])

    def golden(self, texts: Sequence[str], session: AnySession) -> tuple[Any, ...]:
        """The best scores of each row."""
        asked = self.asked(texts)
        readings = self._readings(asked)
        scores = rows_of(self.found(session, readings), self._head)
        return tuple(
            GoldenScores(
                text=one if isinstance(one, str) else one[0],
                second_text=None if isinstance(one, str) else one[1],
                ids=reading.ids,
                second=reading.second,
                places=reading.places,
                rows=tuple(map(_golden_row, rows)),
            )
            for one, reading, rows in zip(asked, readings, scores, strict=True)
        )

    def nearness(self, session: AnySession, samples: Sequence[Any]) -> float:
        """The greatest error of a score."""
        logits = self.found(session, [reading_of(sample) for sample in samples])
        return round(greatest_error(rows_of(logits, self._head), samples), 6)

    def fidelity(self, pairs: Iterable[tuple[Floats, Floats]], digest: str) -> ScoreFidelity:
        """Whose best label is the same, and errors of scores."""
        texts, size, same, differences = 0, 1.0, [], []
        for pair in pairs:
            wanted, found = rows_of(pair, self._head)
            texts += 1
            size = max(size, float(np.abs(wanted).max()))
            same.append(wanted.argmax(1) == found.argmax(1))
            differences.append(np.abs(wanted - found).max(axis=1))
        errors = np.concatenate(differences) / size
        return ScoreFidelity(
            texts=texts,
            rows=len(errors),
            top1=round(float(np.concatenate(same).mean()), 6),
            error=round(float(errors.mean()), 6),
            error_most=round(float(errors.max()), 6),
            text_sha256=digest,
        )

    def promised(self, scheme: str) -> Limits:
        """Top-1 agreement, and errors."""
        top1, error = SCORE_LIMITS[scheme]
        return {Measure.SCORE_TOP1: top1, Measure.SCORE_ERROR: error}


def output_of(record: EncoderRecord, tokenizer: Tokenizer) -> Output:
    """What the graph of a record gives."""
    gives = record.gives
    if isinstance(gives, VectorSpec):
        return VectorOutput(
            tokenizer, context_length=record.context_length, vocab_size=record.vocab_size
        )
    return HeadOutput(tokenizer, gives.head, context_length=record.context_length)


def output_of_bundle(manifest: Encoder | HeadedEncoder, tokenizer: Tokenizer) -> Output:
    """What the graphs of a bundle give."""
    if isinstance(manifest, HeadedEncoder):
        return HeadOutput(tokenizer, manifest.head, context_length=manifest.context_length)
    return VectorOutput(
        tokenizer, context_length=manifest.context_length, vocab_size=manifest.vocab_size
    )


def vectors_promised(scheme: str) -> Limits:
    """The least cosines of vectors to those of fp32 that are promised of a scheme."""
    least = LEAST_COSINES[scheme]
    return {Measure.COSINE_LEAST: least, Measure.GOLDEN_COSINE: least}


def measures_of(fidelity: AnyFidelity) -> Limits:
    """What of it has limits."""
    if isinstance(fidelity, VectorFidelity):
        return {
            Measure.COSINE: fidelity.cosine,
            Measure.COSINE_LEAST: fidelity.cosine_least,
        }
    return {
        Measure.SCORE_TOP1: fidelity.top1,
        Measure.SCORE_ERROR: fidelity.error,
        Measure.SCORE_ERROR_MOST: fidelity.error_most,
    }


def cosines(a: Floats, b: Floats) -> Floats:
    """Of each row of a with that of b."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(norms, 1e-12), np.float32)


def masked(text: str, row: Reading, mask: str) -> str:
    """`text`, as far as it was read, with masks in the place of some of its tokens."""
    spans = row.spans
    first = min(len(spans) // 2, MASK_EVERY // 2)
    begin, parts = 0, []
    for start, end in spans[first::MASK_EVERY][:MAX_MASKS]:
        parts += [text[begin:start], mask]
        begin = end
    last = spans[-1][1] if spans else 0
    return "".join([*parts, text[begin:last]]) or mask


def _scores_pairs(head: AnyHead) -> bool:
    return isinstance(head, SequenceClassification) and "score" in head.tasks


def _golden_row(scores: Floats) -> GoldenRow:
    best = np.argsort(-scores, kind="stable")[:KEPT_LABELS]
    return GoldenRow(
        labels=tuple(int(at) for at in best),
        scores=tuple(round(float(scores[at]), DIGITS) for at in best),
    )
