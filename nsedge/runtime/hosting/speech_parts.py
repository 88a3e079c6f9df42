"""What a speech model is opened to: the encoder, the decoder, the memory between them, and what
reads sound and writes text.

All of it is held to its hashes before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import Speech, SpeechVariant
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import BundleInvalid, InvalidParameter
from nsedge.runtime.audio.mel import LogMel
from nsedge.runtime.audio.recording import Window
from nsedge.runtime.graph.aligner import Aligner
from nsedge.runtime.graph.voice import VoiceSession
from nsedge.runtime.hosting.conditioned import Parts, Plan, Told
from nsedge.runtime.hosting.golden_speech import tokens_of
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.speech.asks import Align, Aligned
from nsedge.runtime.speech.vocabulary import SpeechTokens
from nsedge.runtime.text.tokens import TokenTexts

SpeechBundle = Bundle[Speech]


class Codec:
    """A model's tokens as text."""

    def __init__(self, bundle: SpeechBundle) -> None:
        """Raises BundleInvalid where the tokenizer cannot be read."""
        self._tokenizer = read_tokenizer(bundle.file(bundle.manifest.tokenizer.file))
        self._texts = TokenTexts(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, none of them special."""
        ids: Sequence[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return list(ids)

    def octets(self, token_id: int) -> bytes:
        """The bytes that a token stands for."""
        return self._texts.octets(token_id)


@dataclass(frozen=True, kw_only=True)
class SpeechParts(Parts):
    """A model that nothing was run on yet. aligner: None where its words have no times;
    voice: None where nothing tells what is spoken."""

    aligner: Aligner | None
    voice: VoiceSession | None
    mel: LogMel
    codec: Codec
    tokens: SpeechTokens

    def features(self, window: Window) -> NDArray[np.float32]:
        """The log-mel features of a window."""
        return self.mel.window(window.samples, window.frames)

    def run(self, features: NDArray[np.float32], row: int) -> None:
        """Hear a window: a row of the memory is about it then."""
        self.writer.run(features, row)

    def align(self, asked: Align, row: int) -> Aligned:
        """Find where a text was said.

        Raises:
            InvalidParameter: the model tells no times of words.
        """
        if self.aligner is None:
            raise InvalidParameter("the model tells no times of words", param="word_timestamps")
        prompt = (*asked.prompt, self.tokens.no_timestamps)
        weights, probabilities = self.aligner.run(prompt, asked.text, row)
        return Aligned(weights=weights[:, :, : asked.frames // 2], probabilities=probabilities)


def open_parts(
    bundle: SpeechBundle, variant: SpeechVariant, settings: EngineSettings, told: Told
) -> SpeechParts:
    """Compare the hashes of all that `variant` is made of, and open it; `told` hears the share
    that was read, 0 to 1.

    Raises:
        BundleInvalid: naming the file that was altered, or cannot be loaded.
        DeviceUnavailable: where the variant's provider is not the one in use.
    """
    manifest = bundle.manifest
    voice = manifest.processors.voice
    encoder = manifest.components.encoder_of(variant.name)
    plan = Plan(bundle=bundle, variant=variant, settings=settings, capacity=manifest.context_length)
    plan.check(told)
    opened = plan.open(reads=encoder.io.features)
    return SpeechParts(
        memory=opened.memory,
        writer=opened.writer,
        executor=opened.executor,
        aligner=_aligner(plan, variant, opened),
        voice=None if voice is None else VoiceSession(bundle.file(voice)),
        mel=LogMel(_filters(bundle)),
        codec=Codec(bundle),
        tokens=tokens_of(manifest.tokens),
    )


def _aligner(plan: Plan, variant: SpeechVariant, opened: Parts) -> Aligner | None:
    heads = len(plan.bundle.manifest.alignment_heads)
    if variant.aligner is None or not heads:
        return None
    source = plan.source(
        opened.memory, slots=1, graph=variant.aligner, shares=opened.executor.group
    )
    return Aligner(source, weights=variant.weights, heads=heads)


def _filters(bundle: SpeechBundle) -> NDArray[np.float32]:
    """The mel filters [bins, frequencies].

    Raises:
        BundleInvalid: the file has another size.
    """
    features = bundle.manifest.processors.features
    path = bundle.file(features.filters)
    numbers = np.frombuffer(path.read_bytes(), "<f4")
    if numbers.size != features.bins * (features.fft_size // 2 + 1):
        raise BundleInvalid(f"{path} has not {features.bins} filters")
    return numbers.reshape(features.bins, -1)
