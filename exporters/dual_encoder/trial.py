"""What a dual encoder's graphs make of texts and pictures, and how near they are to fp32, as files
of a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from exporters.dual_encoder.records import (
    DualRecord,
    Golden,
    TowerTrial,
    session_of,
)
from exporters.encoder.outputs import DIGITS, Floats, VectorOutput, cosines
from exporters.encoder.texts import fidelity_texts, golden_texts, tokenizer_of
from exporters.model.source import Source
from exporters.model.texts import fidelity_text_sha256
from nsedge.bundle.dual_encoder import GoldenPicture
from nsedge.runtime.encode.rows import Picture, Row
from nsedge.runtime.graph.dual_encoder import DualEncoderSession
from nsedge.runtime.vision.levels import pattern

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"
GOLDEN_PATTERNS = range(4)
FIDELITY_PATTERNS = range(4, 36)


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graphs in `reference` make of the golden texts and patterns."""
    record = DualRecord.read(reference)
    session, output = session_of(reference, record), _output(source, record)
    seen = session.run(patterns(session, GOLDEN_PATTERNS))
    golden = Golden(
        texts=output.golden(golden_texts(), session),
        pictures=tuple(
            GoldenPicture(pattern=number, vector=tuple(round(float(x), DIGITS) for x in vector))
            for number, vector in zip(GOLDEN_PATTERNS, seen, strict=True)
        ),
    )
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(golden))


def read_golden(folder: Path) -> Golden:
    """What `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=Golden)


def write_trial(
    source: Source, variant: Path, out: Path, *, reference: Path, golden: Golden
) -> None:
    """Write how near the graphs in `variant` are to the fp32 graphs in `reference`."""
    record = DualRecord.read(reference)
    trial = tower_trial(
        session_of(variant, record),
        session_of(reference, record),
        output=_output(source, record),
        golden=golden,
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> TowerTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=TowerTrial)


def tower_trial(
    session: DualEncoderSession,
    exact: DualEncoderSession,
    *,
    output: VectorOutput,
    golden: Golden,
) -> TowerTrial:
    """How near the towers of `session` are to the `exact` ones, over our texts, which `output`
    reads, and our patterns."""
    texts, pictures = golden_cosines(session, output, golden)

    def both(rows: Sequence[Row]) -> Iterable[tuple[Floats, Floats]]:
        return zip(output.found(exact, rows), output.found(session, rows), strict=True)

    rows, seen = output.read(fidelity_texts()), patterns(session, FIDELITY_PATTERNS)
    digest = hashlib.sha256(b"".join(one.pixels.tobytes() for one in seen)).hexdigest()
    return TowerTrial(
        texts=output.fidelity(both(rows), fidelity_text_sha256()),
        pictures=output.fidelity(both(seen), digest),
        golden_texts=texts,
        golden_pictures=pictures,
    )


def golden_cosines(
    session: DualEncoderSession, output: VectorOutput, golden: Golden
) -> tuple[float, float]:
    """The least cosines to the golden vectors: of texts, and of pictures."""
    seen = session.run(patterns(session, [one.pattern for one in golden.pictures]))
    wanted = np.array([one.vector for one in golden.pictures], np.float32)
    near = round(float(cosines(wanted, seen).min()), 6)
    return output.nearness(session, golden.texts), near


def patterns(session: DualEncoderSession, numbers: Sequence[int]) -> list[Picture]:
    """The patterns of these numbers, in the size that the graph takes."""
    return [Picture(pattern(number, *session.size), 1) for number in numbers]


def _output(source: Source, record: DualRecord) -> VectorOutput:
    return VectorOutput(
        tokenizer_of(source, vocab_size=record.vocab_size),
        context_length=record.context_length,
        vocab_size=record.vocab_size,
    )
