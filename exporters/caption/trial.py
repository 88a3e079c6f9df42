"""What a captioner's graphs write of patterns, and how near they are to fp32, as files of a
stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exporters.caption.records import CaptionTrial, runner_of
from exporters.conditioned.runner import ConditionedRunner, Floats
from exporters.conditioned.samples import Sample, golden_share, nearness
from exporters.model.caption import Writing, read_caption_shape, read_writing
from exporters.model.source import Source, read_tokenizer
from nsedge.bundle.caption import CaptionFidelity, GoldenCaption
from nsedge.bundle.pictures import PictureSteps
from nsedge.runtime.vision.levels import level_table, normalised, pattern

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"
GOLDEN_PATTERNS = range(4)
FIDELITY_PATTERNS = range(4, 28)


def pixels_of(number: int, steps: PictureSteps) -> Floats:
    """The pattern of that number as an encoder reads it: [3, H, W]."""
    picture = pattern(number, *steps.size)
    return normalised(picture[None], level_table(steps))[0]


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graphs in `reference` write of the golden patterns."""
    shape = read_caption_shape(source)
    writing, runner = read_writing(source, shape), runner_of(reference, shape.decoder)
    golden = []
    for number in GOLDEN_PATTERNS:
        sample = _written(runner, pixels_of(number, shape.steps), **_plan(writing))
        golden.append(
            GoldenCaption(
                pattern=number,
                prompt_ids=sample.prompt,
                continuation_ids=sample.written,
                logprobs=sample.likelihoods(runner),
            )
        )
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(golden))


def _plan(writing: Writing) -> dict[str, Any]:
    """How captions are written, as `_written` and `others` take it."""
    return {"start": writing.start_id, "ends": writing.eos_ids, "most": writing.max_length}


def read_golden(folder: Path) -> tuple[GoldenCaption, ...]:
    """What `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=tuple[GoldenCaption, ...])


def write_trial(
    source: Source,
    variant: Path,
    out: Path,
    *,
    reference: Path,
    golden: Iterable[GoldenCaption],
    scheme: str,
    native: bool,
) -> None:
    """Write how near a form of the graphs in `variant` is to the fp32 graphs in `reference`."""
    shape = read_caption_shape(source)
    writing = read_writing(source, shape)
    exact = runner_of(reference, shape.decoder)
    runner = runner_of(variant, shape.decoder, scheme=scheme, native=native)
    samples = samples_of(golden, shape.steps)
    tokenizer = read_tokenizer(source.tokenizer_file)
    texts = []
    for sample in samples:
        runner.encode(sample.given)
        found = runner.greedy(sample.prompt, ends=writing.eos_ids, most=len(sample.written))
        texts.append(tokenizer.decode(list(found)))
    trial = CaptionTrial(
        fidelity=fidelity(exact, runner, others(exact, shape.steps, **_plan(writing))),
        golden=golden_share(runner, samples),
        texts=tuple(texts),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> CaptionTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=CaptionTrial)


def samples_of(golden: Iterable[GoldenCaption], steps: PictureSteps) -> list[Sample]:
    """The golden patterns, as an encoder reads them."""
    return [
        Sample(
            given=pixels_of(one.pattern, steps),
            prompt=one.prompt_ids,
            written=one.continuation_ids,
        )
        for one in golden
    ]


def others(
    exact: ConditionedRunner, steps: PictureSteps, *, start: int, ends: Sequence[int], most: int
) -> list[Sample]:
    """What fp32 writes of the patterns that nearness is measured over, in `most` tokens."""
    return [
        _written(exact, pixels_of(number, steps), start=start, ends=ends, most=most)
        for number in FIDELITY_PATTERNS
    ]


def fidelity(
    exact: ConditionedRunner, runner: ConditionedRunner, samples: list[Sample]
) -> CaptionFidelity:
    """How near `runner` is to fp32."""
    return CaptionFidelity(
        **nearness(exact, runner, samples), pictures_sha256=pictures_sha256(samples)
    )


def pictures_sha256(samples: Iterable[Sample]) -> str:
    """What tells these pictures, as an encoder reads them, from all others."""
    levels = (np.ascontiguousarray(sample.given, "<f4").tobytes() for sample in samples)
    return hashlib.sha256(b"".join(levels)).hexdigest()


def _written(
    runner: ConditionedRunner, given: Floats, *, start: int, ends: Sequence[int], most: int
) -> Sample:
    """What is written of a picture, greedily."""
    runner.encode(given)
    written = runner.greedy((start,), ends=ends, most=max(1, most - 1))
    return Sample(given=given, prompt=(start,), written=written)
