"""From a dual encoder's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.orders import VariantOrder, variants_named
from exporters.bundle.package import check_place, settle
from exporters.cache import Cache
from exporters.dual_encoder.package import DualProduct, MadeTowers, package
from exporters.dual_encoder.records import DualRecord
from exporters.dual_encoder.stages import DualStages
from exporters.encoder.schemes import check_variant
from exporters.encoder.stages import LIBRARIES
from exporters.encoder.texts import reader_of
from exporters.encoder.verdict import EncoderVerdict
from exporters.errors import Refused
from exporters.measure.thresholds import OF_VECTORS, check_overrides
from exporters.model.dual_encoder import read_dual_shape
from exporters.model.route import library_versions
from exporters.model.source import Source
from exporters.quantise.schemes import Method

DEFAULT_VARIANTS = "cpu-int8-b64,cpu-fp32"


@dataclass(frozen=True, kw_only=True)
class DualOrder:
    """What to make: which dual encoder, in which variants, reading how many tokens of a text."""

    source: Source
    variants: tuple[VariantOrder, ...] = variants_named(DEFAULT_VARIANTS)
    max_context: int | None = None

    def check(self) -> None:
        """Refuse what does not go together, before any work.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        shape = read_dual_shape(self.source, max_context=self.max_context)
        reader_of(self.source, context_length=shape.context_length, vocab_size=shape.vocabulary)
        for variant in self.variants:
            check_variant(variant)
            if variant.scheme.method is not Method.BLOCKS:
                raise Refused(
                    f"--scheme {variant.scheme.name}: models of texts and pictures have blocks:"
                    " int8-b64, int8-b32, fp32"
                )


@dataclass(frozen=True, kw_only=True)
class DualReport:
    """What came of a bundle's making. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    record: DualRecord
    towers: tuple[MadeTowers, ...]
    verdict: EncoderVerdict


def export_dual_encoder(
    order: DualOrder,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> DualReport:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a variant is too far from fp32.
    """
    order.check()
    limits = overrides or {}
    check_overrides(limits, {wanted.name for wanted in order.variants}, measures=OF_VECTORS)
    check_place(out, name, order.source.origin, replace=replace)
    stages = DualStages(order.source, cache, max_context=order.max_context)
    product = DualProduct(
        source=order.source,
        parameters=order.source.parameters(),
        record=stages.record,
        golden=stages.golden(),
        libraries=library_versions(LIBRARIES),
        towers=tuple(_made(stages, wanted) for wanted in order.variants),
    )
    made, verdict = package(product, out, name=name, overrides=limits, replace=replace)
    return DualReport(
        bundle=out,
        made=made,
        bytes=settle(out, cache, stages.folder),
        record=product.record,
        towers=product.towers,
        verdict=verdict,
    )


def _made(stages: DualStages, order: VariantOrder) -> MadeTowers:
    try:
        folder = stages.variant(order)
    except Refused as error:
        raise Refused(f"variant {order.name}: {error}") from error
    return MadeTowers(
        name=order.name,
        device=order.device.value,
        scheme=order.scheme.name,
        folder=folder,
        trial=stages.trial(order),
    )
