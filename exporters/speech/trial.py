"""What a speech model's graphs write of recordings, and how near they are to fp32, as files of a
stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from exporters.measure.fidelity import divergence
from exporters.measure.runner import log_softmax
from exporters.model.source import Source, read_tokenizer
from exporters.model.speech import read_speech_shape, read_tokens
from exporters.speech.audio import Floats, clip_samples, features_of, mel_filters, wave_bytes
from exporters.speech.records import SpeechTrial
from exporters.speech.runner import SpeechRunner, runner_of
from exporters.speech.sounds import golden_clips
from nsedge.bundle.files import sha256_of
from nsedge.bundle.speech import GoldenSpeech, SpeechFidelity
from nsedge.runtime.hosting.golden_speech import read_wave, tokens_of
from nsedge.runtime.speech.rules import Rules

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"
GOLDEN_FOLDER = "golden"
MOST_TOKENS = 96
ENGLISH = "en"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is heard of a golden recording, and what fp32 writes of it."""

    features: Floats
    golden: GoldenSpeech

    def log_probs(self, runner: SpeechRunner) -> Floats:
        """Log-probabilities [T, V] before each token that fp32 writes."""
        prompt, written = self.golden.prompt_ids, self.golden.continuation_ids
        runner.hear(self.features)
        return log_softmax(runner.logits([*prompt, *written[:-1]], len(prompt) - 1))


def write_golden(source: Source, reference: Path, out: Path) -> None:
    """Write what the fp32 graphs in `reference` write of the golden recordings, and these."""
    shape = read_speech_shape(source)
    tokens, filters = tokens_of(read_tokens(source, shape)), mel_filters(source, shape.bins)
    rules, prompt = Rules(tokens), tokens.opening(ENGLISH, translate=False)
    runner = runner_of(reference, shape)
    golden = []
    (out / GOLDEN_FOLDER).mkdir()
    for clip in golden_clips():
        samples = clip_samples(clip)
        features = features_of(samples, filters)
        runner.hear(features)
        most = min(MOST_TOKENS, shape.positions - len(prompt))
        written = runner.greedy(prompt, rules, end=tokens.end, most=most)
        name = f"{GOLDEN_FOLDER}/{clip.stem.removeprefix('golden-')}.wav"
        (out / name).write_bytes(wave_bytes(samples))
        one = GoldenSpeech(audio=name, prompt_ids=prompt, continuation_ids=written, logprobs=())
        rows = Sample(features=features, golden=one).log_probs(runner)
        likely = rows[np.arange(len(written)), written]
        logprobs = tuple(round(float(each), 5) for each in likely)
        golden.append(msgspec.structs.replace(one, logprobs=logprobs))
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(golden))


def read_golden(folder: Path) -> tuple[GoldenSpeech, ...]:
    """What `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=tuple[GoldenSpeech, ...])


def write_trial(
    source: Source,
    variant: Path,
    out: Path,
    *,
    reference: Path,
    golden: Path,
    scheme: str,
    native: bool,
) -> None:
    """Write how near a form of the graphs in `variant` is to the fp32 graphs in `reference`, over
    the recordings in `golden`."""
    shape = read_speech_shape(source)
    runner = runner_of(variant, shape, scheme=scheme, native=native)
    samples = samples_of(read_golden(golden), golden, mel_filters(source, shape.bins))
    tokens, tokenizer = tokens_of(read_tokens(source, shape)), read_tokenizer(source.tokenizer_file)
    rules, texts = Rules(tokens), []
    for sample in samples:
        runner.hear(sample.features)
        most = len(sample.golden.continuation_ids)
        written = runner.greedy(sample.golden.prompt_ids, rules, end=tokens.end, most=most)
        texts.append(tokenizer.decode([one for one in written if one < tokens.end]))
    trial = SpeechTrial(
        fidelity=fidelity(runner_of(reference, shape), runner, samples),
        golden=golden_share(runner, samples, rules),
        texts=tuple(texts),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> SpeechTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=SpeechTrial)


def samples_of(golden: Sequence[GoldenSpeech], folder: Path, filters: Floats) -> list[Sample]:
    """The golden recordings in `folder`, as an encoder reads them."""
    return [
        Sample(features=features_of(read_wave(folder / one.audio).samples, filters), golden=one)
        for one in golden
    ]


def fidelity(
    exact: SpeechRunner, runner: SpeechRunner, samples: Sequence[Sample]
) -> SpeechFidelity:
    """How near `runner` is to fp32."""
    kl: list[float] = []
    agree: list[bool] = []
    for sample in samples:
        wanted, found = sample.log_probs(exact), sample.log_probs(runner)
        kl += [divergence(w, f) for w, f in zip(wanted, found, strict=True)]
        agree += (wanted.argmax(-1) == found.argmax(-1)).tolist()
    return SpeechFidelity(
        positions=len(kl),
        kl=round(float(np.mean(kl)), 6),
        top1=round(float(np.mean(agree)), 4),
        audio_sha256=clips_sha256(),
    )


def golden_share(runner: SpeechRunner, samples: Sequence[Sample], rules: Rules) -> float:
    """The share of fp32's tokens that are the likeliest, as the rules leave them."""
    hits: list[bool] = []
    for sample in samples:
        written = sample.golden.continuation_ids
        rows = sample.log_probs(runner)
        for place, row in enumerate(rows):
            rules.apply(row, written[:place])
        hits += (rows.argmax(-1) == np.array(written)).tolist()
    return round(float(np.mean(hits)), 4)


def clips_sha256() -> str:
    """What tells the golden recordings from all others."""
    hashes = [sha256_of(clip) for clip in golden_clips()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
