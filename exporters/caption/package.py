"""The bundle of a captioner, of what its stages made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from exporters.bundle.package import GOLDEN_FILE, TOKENIZER_FILE
from exporters.caption.records import PROMISES
from exporters.conditioned.package import Product
from exporters.conditioned.verdict import Promises
from exporters.model.caption import CaptionShape, Writing
from nsedge.bundle.caption import (
    Caption,
    CaptionProcessors,
    CaptionVariant,
    GoldenCaption,
    LookerVariant,
)
from nsedge.bundle.conditioning import EncoderDecoder
from nsedge.bundle.fields import Tokenizer, Variants


@dataclass(frozen=True, kw_only=True)
class CaptionProduct(Product[LookerVariant, CaptionVariant]):
    """A captioner: its sizes, how it writes, and what fp32 writes of golden patterns."""

    shape: CaptionShape
    writing: Writing
    golden: tuple[GoldenCaption, ...]

    @property
    def promises(self) -> Promises:
        """What its schemes promise."""
        return PROMISES

    @property
    def golden_samples(self) -> tuple[GoldenCaption, ...]:
        """What fp32 writes of golden patterns."""
        return self.golden

    def manifest(self, common: dict[str, Any]) -> Caption:
        """The manifest."""
        forms, shape, writing = self.made.forms, self.shape, self.writing
        decoders = tuple(
            msgspec.structs.replace(form.decoder, seen=form.trial.fidelity) for form in forms
        )
        return Caption(
            **common,
            golden={"caption": GOLDEN_FILE},
            components=EncoderDecoder[LookerVariant, CaptionVariant](
                encoder=Variants(variants=tuple(form.encoder for form in forms)),
                decoder=Variants(variants=decoders),
            ),
            processors=CaptionProcessors(
                tokenizer=Tokenizer(file=TOKENIZER_FILE), pictures=shape.steps
            ),
            context_length=shape.decoder.positions,
            vocab_size=shape.decoder.vocabulary,
            frames=shape.decoder.frames,
            start_id=writing.start_id,
            eos_token_ids=writing.eos_ids,
            pad_token_id=writing.pad_id,
            max_length=writing.max_length,
            search=writing.search,
            generation_defaults=writing.defaults,
        )
