"""The bundle of a speech model, of what its stages made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exporters.bundle.package import GOLDEN_FILE, TOKENIZER_FILE, Contents
from exporters.conditioned.package import Product
from exporters.conditioned.verdict import Promises
from exporters.model.speech import SpeechShape, read_alignment_heads, read_tokens
from exporters.speech.audio import mel_filters
from exporters.speech.records import ALIGNER_FILE, NATIVE_ALIGNER_FILE, PROMISES
from exporters.speech.voice import VOICE_FILE
from nsedge.bundle.conditioning import EncoderDecoder
from nsedge.bundle.fields import Tokenizer, Variants
from nsedge.bundle.speech import (
    GoldenSpeech,
    ListenerVariant,
    LogMel,
    Speech,
    SpeechProcessors,
    SpeechVariant,
)

FILTERS_FILE = "mel_filters.f32"


@dataclass(frozen=True, kw_only=True)
class SpeechProduct(Product[ListenerVariant, SpeechVariant]):
    """A speech model: its sizes, golden recordings and what fp32 writes of them; the voice
    detector's files by their names in a bundle."""

    shape: SpeechShape
    golden: tuple[GoldenSpeech, ...]
    golden_folder: Path
    voice: Mapping[str, Path]

    @property
    def promises(self) -> Promises:
        """What its schemes promise."""
        return PROMISES

    @property
    def golden_samples(self) -> tuple[GoldenSpeech, ...]:
        """What fp32 writes of golden recordings."""
        return self.golden

    @property
    def beside(self) -> Mapping[bool, str]:
        """The aligners."""
        return {False: ALIGNER_FILE, True: NATIVE_ALIGNER_FILE}

    def more(self) -> Contents:
        """The mel filters, golden recordings, and the voice detector."""
        filters = np.asarray(mel_filters(self.source, self.shape.bins), "<f4").tobytes()
        recordings = {one.audio: self.golden_folder / one.audio for one in self.golden}
        return {FILTERS_FILE: filters, **self.voice, **recordings}

    def manifest(self, common: dict[str, Any]) -> Speech:
        """The manifest."""
        forms, shape = self.made.forms, self.shape
        decoders = tuple(
            msgspec.structs.replace(form.decoder, heard=form.trial.fidelity) for form in forms
        )
        return Speech(
            **common,
            golden={"transcribe": GOLDEN_FILE},
            components=EncoderDecoder[ListenerVariant, SpeechVariant](
                encoder=Variants(variants=tuple(form.encoder for form in forms)),
                decoder=Variants(variants=decoders),
            ),
            processors=SpeechProcessors(
                tokenizer=Tokenizer(file=TOKENIZER_FILE),
                features=LogMel(filters=FILTERS_FILE, bins=shape.bins),
                voice=VOICE_FILE if VOICE_FILE in self.voice else None,
            ),
            context_length=shape.positions,
            vocab_size=shape.vocabulary,
            frames=shape.frames,
            tokens=read_tokens(self.source, shape),
            alignment_heads=read_alignment_heads(self.source, shape),
        )
