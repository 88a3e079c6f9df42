"""The answers of a model's graphs, and how near they are to fp32, as files of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from exporters.graph.records import Trial
from exporters.measure.fidelity import (
    GOLDEN_TOKENS,
    answers,
    continue_greedily,
    measure,
    run_golden,
)
from exporters.measure.runner import Runner, runner_of
from exporters.model.source import Source
from exporters.model.texts import fidelity_passages, fidelity_text_sha256, golden_texts
from nsedge.bundle.causal_lm import GoldenPrompt

GOLDEN_NAME = "golden.json"
ANSWERS_NAME = "answers.json"
TRIAL_NAME = "trial.json"


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graph in `reference` says to each golden text that it has room for."""
    runner, reader = runner_of(reference), source.text_reader()
    texts = [(text, reader.encode(text)) for text in golden_texts(reader)]
    ends = source.eos_ids(reader)
    prompts = tuple(
        continue_greedily(runner, text, ids, ends)
        for text, ids in texts
        if len(ids) + GOLDEN_TOKENS <= runner.capacity
    )
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(prompts))


def read_golden(folder: Path) -> tuple[GoldenPrompt, ...]:
    """Read what `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=tuple[GoldenPrompt, ...])


def write_answers(source: Source, reference: Path, out: Path, *, prompts: Sequence[str]) -> None:
    """Write what the fp32 graph in `reference` says to `prompts`."""
    reader = source.text_reader()
    said = answers(runner_of(reference), reader, prompts, source.eos_ids(reader))
    (out / ANSWERS_NAME).write_bytes(msgspec.json.encode(said))


def read_answers(folder: Path) -> tuple[str, ...]:
    """Read what `write_answers` wrote to `folder`."""
    return msgspec.json.decode((folder / ANSWERS_NAME).read_bytes(), type=tuple[str, ...])


def write_trial(
    source: Source,
    runner: Runner,
    out: Path,
    *,
    reference: Path,
    golden: Sequence[GoldenPrompt],
    prompts: Sequence[str],
) -> None:
    """Write how near `runner` is to the fp32 graph in `reference`, and what it says."""
    reader = source.text_reader()
    passages, digest = fidelity_passages(reader), fidelity_text_sha256()
    trial = Trial(
        fidelity=measure(runner_of(reference), runner, passages, text_sha256=digest),
        golden=run_golden(runner, golden),
        answers=answers(runner, reader, prompts, source.eos_ids(reader)),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> Trial:
    """Read what `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=Trial)
