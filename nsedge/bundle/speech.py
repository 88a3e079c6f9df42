"""The manifest of a model that writes what is said in a recording."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from nsedge.bundle.conditioning import (
    ConditionedFidelity,
    ConditionedVariant,
    ConditioningIo,
    ConditioningVariant,
    EncoderDecoder,
)
from nsedge.bundle.fields import (
    AnyVariant,
    Common,
    Count,
    Line,
    Positive,
    RelativePath,
    Sha256,
    Strict,
    Tokenizer,
)


class ListenerIo(ConditioningIo, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs. features: float32 [1, bins, 2 frames], the log-mel
    spectrogram of a window."""

    features: Line = "features"


class ListenerVariant(ConditioningVariant, frozen=True, kw_only=True):
    """The encoder's graph for one device and precision."""

    io: ListenerIo


class SpeechFidelity(ConditionedFidelity, frozen=True, kw_only=True):
    """How near a variant is to fp32 over recordings."""

    audio_sha256: Sha256


class SpeechVariant(ConditionedVariant, frozen=True, kw_only=True):
    """The decoder's graph for one device and precision.

    - heard: how near it is to fp32, with the encoder of its name.
    - aligner: the same graph, with a further output called `weights`: float32 [alignment heads,
      tokens, frames], what these heads look at.
    """

    heard: SpeechFidelity | None = None
    aligner: RelativePath | None = None
    weights: Line = "weights"


Language = Annotated[str, Meta(pattern=r"^[a-z]{2,3}\Z")]
"""A language's code."""


class LogMel(Strict, frozen=True, kw_only=True):
    """How a window of sound becomes features. filters: a file of float32, little-endian, [bins,
    fft_size // 2 + 1]."""

    filters: RelativePath
    bins: Positive
    sampling_rate: Positive = 16000
    fft_size: Positive = 400
    hop: Positive = 160
    seconds: Positive = 30


class SpeechProcessors(Strict, frozen=True, kw_only=True):
    """What reads sound and writes text."""

    tokenizer: Tokenizer
    features: LogMel
    voice: RelativePath | None = None
    """Silero's voice detector, where recordings are to be cut to what is spoken."""


class SpeechTokens(Strict, frozen=True, kw_only=True):
    """Ids of the tokens that have a meaning of their own. first_timestamp is 0 s; those after it
    are 0.02 s apart. A model of one language has no word for tasks and languages."""

    end: Count
    start: Count
    start_of_previous: Count
    no_speech: Count
    no_timestamps: Count
    first_timestamp: Count
    transcribe: Count | None = None
    translate: Count | None = None
    languages: dict[Language, Count] = msgspec.field(default_factory=dict)
    suppressed: tuple[Count, ...] = ()
    """Never drawn."""
    suppressed_first: tuple[Count, ...] = ()
    """Never drawn as the first of a window."""


class Speech(Common, frozen=True, kw_only=True, tag="speech"):
    """A model that writes what is said.

    - context_length: tokens of a window's prompt and text.
    - frames: of the encoder's output for a window.
    - alignment_heads: layers and heads of the decoder whose attention follows the sound.
    """

    components: EncoderDecoder[ListenerVariant, SpeechVariant]
    processors: SpeechProcessors
    context_length: Positive
    vocab_size: Positive
    frames: Positive
    tokens: SpeechTokens
    alignment_heads: tuple[tuple[Count, Count], ...] = ()

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """The decoder's, and then the encoder's."""
        return self.components.variants

    @property
    def tokenizer(self) -> Tokenizer:
        """What writes text."""
        return self.processors.tokenizer

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return ("transcribe", "listen")

    @property
    def languages(self) -> tuple[str, ...]:
        """What it knows, by code."""
        return tuple(self.tokens.languages) or ("en",)

    def named_files(self) -> list[str]:
        """The files that have a use, all variants' graphs among them."""
        aligners = [one.aligner for one in self.components.decoder.variants if one.aligner]
        processors = [self.tokenizer.file, self.processors.features.filters]
        if self.processors.voice is not None:
            processors.append(self.processors.voice)
        return [*super().named_files(), *processors, *aligners]


class GoldenSpeech(Strict, frozen=True, kw_only=True):
    """A recording of the bundle, and what the fp32 model wrote of it, greedily.

    logprobs holds the fp32 log-probability (nats) of each token, teacher-forced.
    """

    audio: RelativePath
    prompt_ids: tuple[Count, ...]
    continuation_ids: tuple[Count, ...]
    logprobs: tuple[float, ...]
