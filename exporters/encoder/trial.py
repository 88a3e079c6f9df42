"""What an encoder's graphs make of texts, and how near they are to fp32, as files of a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from exporters.encoder.outputs import Output, measures_of, output_of
from exporters.encoder.records import AnyFidelity, EncoderRecord, session_of
from exporters.encoder.texts import fidelity_texts, golden_texts, tokenizer_of
from exporters.measure.thresholds import Limits
from exporters.model.source import Source
from exporters.model.texts import fidelity_text_sha256

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"

F = TypeVar("F", bound=AnyFidelity)


class EncoderTrial(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """What was found of a graph when it was made. `golden`: how near it comes to golden samples."""

    fidelity: F
    golden: float


def found_of(trial: EncoderTrial[Any], output: Output) -> Limits:
    """What of a trial has limits."""
    return {output.golden_measure: trial.golden, **measures_of(trial.fidelity)}


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graph in `reference` makes of the golden texts."""
    output, record = _output(source, reference)
    samples = output.golden(golden_texts(), session_of(reference, record))
    (out / GOLDEN_NAME).write_bytes(output.encode(samples))


def read_golden(folder: Path) -> bytes:
    """What `write_golden` wrote to `folder`."""
    return (folder / GOLDEN_NAME).read_bytes()


def write_trial(
    source: Source, variant: Path, out: Path, *, reference: Path, golden: bytes
) -> None:
    """Write how near the graph in `variant` is to the fp32 graph in `reference`."""
    output, record = _output(source, reference)
    exact, session = session_of(reference, record), session_of(variant, record)
    rows = output.read(fidelity_texts())
    trial: EncoderTrial[Any] = EncoderTrial(
        fidelity=output.compared(exact, session, rows, fidelity_text_sha256()),
        golden=output.nearness(session, output.decode(golden)),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path, output: Output) -> EncoderTrial[Any]:
    """What `write_trial` wrote to `folder`."""
    kind: Any = EncoderTrial[output.fidelity_type]  # type: ignore[name-defined]
    trial: EncoderTrial[Any] = msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=kind)
    return trial


def _output(source: Source, reference: Path) -> tuple[Output, EncoderRecord]:
    record = EncoderRecord.read(reference)
    return output_of(record, tokenizer_of(source, vocab_size=record.vocab_size)), record
