"""What graphs of a model of pictures make: golden samples, and how near their pictures are to
fp32's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporters.diffusion.records import DiffusionRecord, DiffusionTrial, session_of
from exporters.errors import ExportError
from nsedge.bundle.diffusion import GoldenImage, ImageFidelity, PromptReading
from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.runtime.diffusion.guidance import guided
from nsedge.runtime.diffusion.registry import begin
from nsedge.runtime.graph.diffusion import Chunk, DiffusionSession, Row
from nsedge.runtime.hosting.golden_images import cosines, made
from nsedge.runtime.text.prompt_chunks import PromptChunks

Floats = NDArray[np.float32]

GOLDEN_FILE, TRIAL_FILE = "golden.json", "trial.json"
PROMPTS = ("a photo of a red circle on grey", "a blue square")
GOLDEN_TIMESTEPS = (601.0, 41.0)
STEPS = 4
GUIDANCE = 5.0
MOST_SIDES = 4
"""Of the least size that a model takes, in a picture that is compared."""
MOST_PSNR_DB = 120.0
"""Of pictures that are the same."""


def chunks_of(folder: Path, prompts: Sequence[PromptReading], text: str) -> Chunk:
    """A short prompt's tokens for each text encoder; the tokenizers lie in `folder`."""
    readers = [PromptChunks(read_tokenizer(folder / one.tokenizer), one) for one in prompts]
    return tuple(reader.framed(reader.tokens(text, "prompt"), 1)[0] for reader in readers)


def write_golden(reference: Path, step: int, out: Path) -> None:
    """Write what the fp32 graphs in `reference` make of golden samples, with latents of two times
    `step` places to a side."""
    record = DiffusionRecord.read(reference)
    session = session_of(reference, record)
    samples = []
    for seed, (prompt, timestep) in enumerate(zip(PROMPTS, GOLDEN_TIMESTEPS, strict=True)):
        sample = GoldenImage(
            ids=chunks_of(reference, record.prompts, prompt),
            seed=seed,
            side=2 * step,
            timestep=timestep,
            denoised=(),
            decoded=(),
        )
        denoised, decoded = made(session, sample)
        samples.append(
            msgspec.structs.replace(
                sample, denoised=tuple(denoised.tolist()), decoded=tuple(decoded.tolist())
            )
        )
    (out / GOLDEN_FILE).write_bytes(msgspec.json.encode(samples))


def read_golden(folder: Path) -> tuple[GoldenImage, ...]:
    """What `write_golden` wrote.

    Raises:
        ExportError: the cache is damaged there.
    """
    return _read(folder / GOLDEN_FILE, tuple[GoldenImage, ...])


def write_trial(
    reference: Path,
    variant: Path,
    out: Path,
    *,
    scheduler: SchedulerConfig,
    side: int,
    golden: Sequence[GoldenImage],
) -> None:
    """Write how near the graphs in `variant` are to those in `reference`, over pictures of `side`
    places."""
    record = DiffusionRecord.read(reference)
    chunks = [chunks_of(reference, record.prompts, text) for text in ("", *PROMPTS)]
    wanted = pictures(session_of(reference, record), scheduler, chunks, side)
    session = session_of(variant, record, reference=reference)
    trial = DiffusionTrial(
        fidelity=compared(pictures(session, scheduler, chunks, side), wanted),
        golden=min(cosines(session, golden)),
    )
    (out / TRIAL_FILE).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> DiffusionTrial:
    """What `write_trial` wrote.

    Raises:
        ExportError: the cache is damaged there.
    """
    return _read(folder / TRIAL_FILE, DiffusionTrial)


def pictures(
    session: DiffusionSession, scheduler: SchedulerConfig, chunks: Sequence[Chunk], side: int
) -> list[Floats]:
    """Pictures of prompts, of which the first is the negative one of all others, with levels from 0
    to 1."""
    without, *prompts = [session.read([chunk]) for chunk in chunks]
    found = []
    for seed, prompted in enumerate(prompts):
        random = np.random.default_rng(seed)
        shape = session.form.channels, side, side

        def noise(random: np.random.Generator = random, shape: tuple[int, ...] = shape) -> Floats:
            return random.standard_normal(shape, np.float32)

        way = begin(scheduler, STEPS)
        sample = noise() * np.float32(way.init_scale)
        while not way.is_done():
            given, timestep = way.scaled(sample), float(way.timesteps[way.at])
            rows = [
                Row(sample=given, timestep=timestep, prompted=one) for one in (without, prompted)
            ]
            outputs = session.denoise(rows)
            sample = way.step(guided(outputs[0], outputs[1], GUIDANCE), sample, noise)
        levels = session.decoded(sample) / 2 + np.float32(0.5)
        found.append(np.asarray(np.clip(levels, 0, 1), np.float32))
    return found


def compared(found: Sequence[Floats], wanted: Sequence[Floats]) -> ImageFidelity:
    """How near pictures are to others."""
    apart = np.stack([a.astype(np.float64) - b for a, b in zip(found, wanted, strict=True)])
    power = float(np.mean(apart**2))
    decibels = -10 * math.log10(power) if power > 0 else MOST_PSNR_DB
    return ImageFidelity(
        images=len(wanted),
        steps=STEPS,
        mean_difference=round(float(np.abs(apart).mean()), 7),
        greatest_difference=round(float(np.abs(apart).max()), 7),
        psnr_db=round(min(decibels, MOST_PSNR_DB), 2),
    )


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise ExportError(f"{path}: {error}; delete {path.parent} to make it anew") from error
