"""A speech model's golden recordings, heard as requests are: what fp32 wrote must be likely."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from nsedge.bundle import speech as manifests
from nsedge.bundle.speech import GoldenSpeech, SpeechVariant
from nsedge.errors import BundleInvalid
from nsedge.runtime.audio.recording import Recording, Window
from nsedge.runtime.audio.samples import Samples
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.hosting.golden import Agreement, hold, logits_before
from nsedge.runtime.speech.rules import Rules
from nsedge.runtime.speech.vocabulary import SpeechTokens

Hear = Callable[[Window], None]
"""Writes what is heard in a window to the first row of the memory."""


@dataclass(frozen=True)
class Recorded:
    """Samples of a recording that are there as a whole."""

    samples: Samples

    def blocks(self) -> Iterator[Samples]:
        """All of them."""
        yield self.samples


def tokens_of(named: manifests.SpeechTokens) -> SpeechTokens:
    """The tokens of a manifest as transcripts know them."""
    return SpeechTokens(**msgspec.structs.asdict(named))


def read_wave(path: Path) -> Recorded:
    """A golden recording: one channel of 16 bits, 16,000 samples a second.

    Raises:
        BundleInvalid: it is another thing.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, 16000):
                raise BundleInvalid(f"{path}: a golden recording is mono, 16 bits, 16 kHz")
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise BundleInvalid(f"{path}: {error}") from error
    return Recorded(np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768))


def logits_after(runner: StepRunner, golden: GoldenSpeech, rules: Rules) -> NDArray[np.float32]:
    """Logits [T, V] before each token of the recorded text, as the rules leave them; what was heard
    is in the first row of the memory."""
    written = golden.continuation_ids
    rows = logits_before(runner, golden.prompt_ids, written)
    for place, row in enumerate(rows):
        rules.apply(row, written[:place])
    return rows


def check(
    golden: tuple[GoldenSpeech, ...],
    *,
    folder: Path,
    hear: Hear,
    runner: StepRunner,
    rules: Rules,
    variant: SpeechVariant,
) -> Agreement:
    """Have each recording heard, and its text read as if it were being written.

    Raises:
        BundleInvalid: too few of its tokens are the likeliest.
    """
    hits: list[bool] = []
    for sample in golden:
        hear(Recording(read_wave(folder / sample.audio)).window(0))
        likeliest = logits_after(runner, sample, rules).argmax(axis=1)
        hits += (likeliest == np.array(sample.continuation_ids)).tolist()
    found = Agreement(tokens=len(hits), agreed=sum(hits))
    judge(found, variant)
    return found


def judge(found: Agreement, variant: SpeechVariant) -> None:
    """Hold what was found of `variant` to what was recorded of it.

    Raises:
        BundleInvalid: too few tokens agree.
    """
    recorded = 1.0 if variant.heard is None else variant.heard.top1
    hold(found, recorded, variant=variant.name, does="write its golden recordings")
