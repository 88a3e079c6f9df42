"""What a speech model's graphs write of recordings, and how near they are to fp32, as files of a
stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from exporters.conditioned.runner import ConditionedRunner
from exporters.conditioned.samples import Sample, golden_share, nearness
from exporters.model.source import Source, read_tokenizer
from exporters.model.speech import read_speech_shape, read_tokens
from exporters.speech.audio import Floats, clip_samples, features_of, mel_filters, wave_bytes
from exporters.speech.records import SpeechTrial
from exporters.speech.runner import runner_of
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
        runner.encode(features)
        most = min(MOST_TOKENS, shape.positions - len(prompt))
        written = runner.greedy(prompt, ends=(tokens.end,), most=most, rule=rules.apply)
        name = f"{GOLDEN_FOLDER}/{clip.stem.removeprefix('golden-')}.wav"
        (out / name).write_bytes(wave_bytes(samples))
        sample = Sample(given=features, prompt=prompt, written=written)
        golden.append(
            GoldenSpeech(
                audio=name,
                prompt_ids=prompt,
                continuation_ids=written,
                logprobs=sample.likelihoods(runner),
            )
        )
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
        runner.encode(sample.given)
        written = runner.greedy(
            sample.prompt, ends=(tokens.end,), most=len(sample.written), rule=rules.apply
        )
        texts.append(tokenizer.decode([one for one in written if one < tokens.end]))
    trial = SpeechTrial(
        fidelity=fidelity(runner_of(reference, shape), runner, samples),
        golden=golden_share(runner, samples, rules.apply),
        texts=tuple(texts),
    )
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> SpeechTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=SpeechTrial)


def samples_of(golden: Sequence[GoldenSpeech], folder: Path, filters: Floats) -> list[Sample]:
    """The golden recordings in `folder`, as an encoder reads them."""
    return [
        Sample(
            given=features_of(read_wave(folder / one.audio).samples, filters),
            prompt=one.prompt_ids,
            written=one.continuation_ids,
        )
        for one in golden
    ]


def fidelity(
    exact: ConditionedRunner, runner: ConditionedRunner, samples: Sequence[Sample]
) -> SpeechFidelity:
    """How near `runner` is to fp32."""
    return SpeechFidelity(**nearness(exact, runner, samples), audio_sha256=clips_sha256())


def clips_sha256() -> str:
    """What tells the golden recordings from all others."""
    hashes = [sha256_of(clip) for clip in golden_clips()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
