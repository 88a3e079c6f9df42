"""What a speech model is opened to: the encoder, the decoder, the memory between them, and what
reads sound and writes text.

All of it is held to its hashes before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import Speech, SpeechVariant
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import BundleInvalid, InvalidParameter
from nsedge.runtime.audio.mel import LogMel
from nsedge.runtime.audio.recording import Window
from nsedge.runtime.graph.aligner import Aligner
from nsedge.runtime.graph.conditioning import Memory
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.graph.memory_writer import MemoryWriter
from nsedge.runtime.graph.voice import VoiceSession
from nsedge.runtime.hosting.golden_speech import tokens_of
from nsedge.runtime.hosting.text import context_bytes
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.cores import usable_cores
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
class SpeechParts:
    """A model that nothing was run on yet. aligner: None where its words have no times;
    voice: None where nothing tells what is spoken."""

    memory: Memory
    listener: MemoryWriter
    executor: Executor
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
        self.listener.run(features, row)

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
    bundle: SpeechBundle,
    variant: SpeechVariant,
    settings: EngineSettings,
    told: Callable[[float], None],
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
    hashes = Hashes(bundle, variant.graph, told, beside=(encoder.graph,))
    hashes.check_parsed()
    hashes.check_weights()
    threads = settings.threads or usable_cores()
    memory = Memory(variant.memory, rows=settings.slots)
    executor = open_executor(_source(bundle, variant, memory, threads, slots=settings.slots))
    return SpeechParts(
        memory=memory,
        listener=MemoryWriter(
            bundle.file(encoder.graph), encoder, memory, reads=encoder.io.features, threads=threads
        ),
        executor=executor,
        aligner=_aligner(bundle, variant, memory, threads, group=executor.group),
        voice=None if voice is None else VoiceSession(bundle.file(voice)),
        mel=LogMel(_filters(bundle)),
        codec=Codec(bundle),
        tokens=tokens_of(manifest.tokens),
    )


def _source(
    bundle: SpeechBundle,
    variant: SpeechVariant,
    memory: Memory,
    threads: int,
    *,
    slots: int,
    graph: str | None = None,
    shares: int | None = None,
) -> Source:
    return Source(
        graph=bundle.file(graph or variant.graph),
        variant=variant,
        vocab_size=bundle.manifest.vocab_size,
        slots=slots,
        capacity=bundle.manifest.context_length,
        threads=threads,
        memory=memory,
        shares=shares,
    )


def _aligner(
    bundle: SpeechBundle, variant: SpeechVariant, memory: Memory, threads: int, *, group: int
) -> Aligner | None:
    heads = len(bundle.manifest.alignment_heads)
    if variant.aligner is None or not heads:
        return None
    source = _source(bundle, variant, memory, threads, slots=1, graph=variant.aligner, shares=group)
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


def variant_of(bundle: SpeechBundle, settings: EngineSettings) -> SpeechVariant:
    """The variant that runs here.

    Raises:
        DeviceUnavailable: where none does.
    """
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    variants = bundle.manifest.components.decoder.variants
    return choose_variant(variants, settings.device, bundle.name, wanted=wanted)


def least_bytes(variant: SpeechVariant, manifest: Speech) -> int:
    """One window of the memory, and one full context."""
    heard = variant.memory
    kv = heard.kv
    frames = -(-heard.frames // kv.block_tokens) * kv.block_tokens
    window = 2 * kv.layers * kv.heads * kv.width * frames * np.dtype(kv.dtype).itemsize
    return window + context_bytes(variant, manifest.context_length)


def expected(bundle: SpeechBundle, settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: twice its files as they
    lie on disk, which a window's run takes, too, and one window with a full context.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest = bundle.manifest
    variant = variant_of(bundle, settings)
    graphs = (variant.graph, manifest.components.encoder_of(variant.name).graph)
    folders = {PurePosixPath(graph).parent for graph in graphs}
    files = manifest.files.items()
    weights = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent in folders)
    return Amount(2 * weights + least_bytes(variant, manifest))
