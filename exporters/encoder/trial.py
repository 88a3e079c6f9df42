"""What an encoder's graphs make of texts, and how near they are to fp32, as files of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporters.encoder.records import EncoderRecord, session_of
from exporters.encoder.texts import fidelity_texts, golden_texts, reader_of
from exporters.measure.thresholds import Limits, Measure
from exporters.model.source import Source
from exporters.model.texts import fidelity_text_sha256
from nsedge.bundle.encoder import GoldenVector, VectorFidelity
from nsedge.runtime.graph.encoder import EncoderSession

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"
DIGITS = 7
"""Decimal places of golden vectors, whose numbers are below 1 where they are normalised."""
BATCH = 8

Floats = NDArray[np.float32]


class VectorTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a graph when it was made. `golden`: the least cosine to golden vectors."""

    fidelity: VectorFidelity
    golden: float

    @property
    def found(self) -> Limits:
        """What of it has limits."""
        return {
            Measure.GOLDEN_COSINE: self.golden,
            Measure.COSINE: self.fidelity.cosine,
            Measure.COSINE_LEAST: self.fidelity.cosine_least,
        }


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graph in `reference` makes of the golden texts."""
    record = EncoderRecord.read(reference)
    texts, ids = golden_texts(), _ids(source, record, golden_texts())
    vectors = vectors_of(session_of(reference, record), ids)
    golden = tuple(
        GoldenVector(
            text=text, ids=tuple(row), vector=tuple(round(float(x), DIGITS) for x in vector)
        )
        for text, row, vector in zip(texts, ids, vectors, strict=True)
    )
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(golden))


def read_golden(folder: Path) -> tuple[GoldenVector, ...]:
    """What `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=tuple[GoldenVector, ...])


def write_trial(
    source: Source,
    variant: Path,
    out: Path,
    *,
    reference: Path,
    golden: Sequence[GoldenVector],
) -> None:
    """Write how near the graph in `variant` is to the fp32 graph in `reference`."""
    record = EncoderRecord.read(reference)
    session = session_of(variant, record)
    ids = _ids(source, record, fidelity_texts())
    trial = VectorTrial(
        fidelity=fidelity(
            vectors_of(session_of(reference, record), ids),
            vectors_of(session, ids),
            text_sha256=fidelity_text_sha256(),
        ),
        golden=golden_cosine(session, golden),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> VectorTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=VectorTrial)


def vectors_of(session: EncoderSession, ids: Sequence[Sequence[int]]) -> Floats:
    """Vectors [len(ids), H], a few texts at a time as they come, so that short ones are padded."""
    begins = range(0, len(ids), BATCH)
    return np.concatenate([session.run(ids[begin : begin + BATCH]) for begin in begins])


def fidelity(wanted: Floats, found: Floats, *, text_sha256: str) -> VectorFidelity:
    """How near vectors are to those that were wanted."""
    near = cosines(wanted, found)
    return VectorFidelity(
        texts=len(near),
        cosine=round(float(near.mean()), 6),
        cosine_least=round(float(near.min()), 6),
        text_sha256=text_sha256,
    )


def golden_cosine(session: EncoderSession, golden: Sequence[GoldenVector]) -> float:
    """The least cosine to the golden vectors."""
    found = session.run([sample.ids for sample in golden])
    wanted = np.array([sample.vector for sample in golden], np.float32)
    return round(float(cosines(wanted, found).min()), 6)


def cosines(a: Floats, b: Floats) -> Floats:
    """Of each row of a with that of b."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(norms, 1e-12), np.float32)


def _ids(source: Source, record: EncoderRecord, texts: Sequence[str]) -> list[tuple[int, ...]]:
    reader = reader_of(source, context_length=record.context_length, vocab_size=record.vocab_size)
    return reader.read(texts, truncate=True)
