"""From a speech model's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.orders import VariantOrder, variants_named
from exporters.cache import Cache
from exporters.conditioned.package import ConditionedReport, check_export, made_of, package
from exporters.conditioned.stages import check_orders
from exporters.model.source import Source
from exporters.model.speech import SpeechShape, read_alignment_heads, read_speech_shape, read_tokens
from exporters.speech.package import SpeechProduct
from exporters.speech.records import PROMISES
from exporters.speech.stages import SpeechStages, SpeechVariantStages
from exporters.speech.voice import voice_files

DEFAULT_VARIANTS = "cpu-int8-b64"


def default_variants() -> tuple[VariantOrder, ...]:
    """Those of a bundle where none are named."""
    return variants_named(DEFAULT_VARIANTS)


@dataclass(frozen=True, kw_only=True)
class SpeechOrder:
    """What to make: which model, in which variants, and whether with the voice detector."""

    source: Source
    variants: tuple[VariantOrder, ...]
    voice: bool = True

    def check(self) -> SpeechShape:
        """Refuse what does not go together, before any work; the model's sizes.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        shape = read_speech_shape(self.source)
        read_tokens(self.source, shape)
        read_alignment_heads(self.source, shape)
        check_orders(self.variants, PROMISES, models="speech models")
        return shape


def export_speech(
    order: SpeechOrder,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> ConditionedReport:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a form is too far from fp32.
    """
    shape = order.check()
    limits = overrides or {}
    check_export(order.variants, order.source, out, name=name, overrides=limits, replace=replace)
    reference = SpeechStages(order.source, cache)
    stages = [SpeechVariantStages(reference, one, shape) for one in order.variants]
    product = SpeechProduct(
        source=order.source,
        made=made_of(reference.record, stages),
        shape=shape,
        golden=reference.golden(),
        golden_folder=reference.golden_folder(),
        voice=voice_files(cache) if order.voice else {},
    )
    return package(
        product,
        out,
        name=name,
        overrides=limits,
        replace=replace,
        cache=cache,
        reference=reference.folder,
    )
