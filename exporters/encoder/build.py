"""From an encoder's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.choosing import first_without_reason
from exporters.bundle.orders import VariantOrder
from exporters.bundle.package import check_place, settle
from exporters.cache import Cache
from exporters.encoder.package import EncoderProduct, package
from exporters.encoder.records import EncoderVariantRecord, ExportedEncoder, ExportedGraph
from exporters.encoder.schemes import check_variant
from exporters.encoder.stages import LIBRARIES, ReferenceStages, VariantStages
from exporters.encoder.texts import reader_of
from exporters.encoder.trial import found_of
from exporters.encoder.verdict import EncoderVerdict
from exporters.errors import Refused
from exporters.measure.thresholds import (
    OF_SCORES,
    OF_VECTORS,
    Overrides,
    check_overrides,
    named_in,
    not_kept,
)
from exporters.model.encoder import read_shape
from exporters.model.route import library_versions
from exporters.model.source import Source


@dataclass(frozen=True, kw_only=True)
class EncoderOrder:
    """What to make: which encoder, in which variants, reading how many tokens of a text."""

    source: Source
    variants: tuple[VariantOrder, ...]
    max_context: int | None = None

    def check(self, limits: Overrides) -> None:
        """Refuse what does not go together, before any work.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete, or a limit is of nothing that is measured.
        """
        shape = read_shape(self.source, max_context=self.max_context)
        reader_of(self.source, context_length=shape.context_length, vocab_size=shape.vocabulary)
        for variant in self.variants:
            check_variant(variant)
        named = {one.name for wanted in self.variants for one in (wanted, *wanted.instead)}
        measures = OF_VECTORS if shape.head is None else OF_SCORES
        check_overrides(limits, named, measures=measures)


@dataclass(frozen=True, kw_only=True)
class EncoderReport:
    """What came of a bundle's making. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    exported: ExportedEncoder
    verdict: EncoderVerdict


def export_encoder(
    order: EncoderOrder,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> EncoderReport:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a variant is too far from fp32.
    """
    limits = overrides or {}
    order.check(limits)
    check_place(out, name, order.source.origin, replace=replace)
    reference = ReferenceStages(order.source, cache, max_context=order.max_context)
    product = _product(order, reference, limits)
    made, verdict = package(product, out, name=name, overrides=limits, replace=replace)
    return EncoderReport(
        bundle=out,
        made=made,
        bytes=settle(out, cache, reference.folder),
        exported=product.exported,
        verdict=verdict,
    )


def _product(
    order: EncoderOrder, reference: ReferenceStages, overrides: Overrides
) -> EncoderProduct:
    """Every graph and all that is said of it."""
    notes: list[str] = []
    made = [_first_near_enough(reference, one, overrides, notes) for one in order.variants]
    exported = ExportedEncoder(
        parameters=order.source.parameters(),
        record=reference.record,
        libraries=library_versions(LIBRARIES),
        golden=reference.golden(),
        variants=tuple(map(_exported, made)),
        notes=tuple(notes),
    )
    folders = {one.order.name: one.folder for one in made}
    return EncoderProduct(
        exported=exported, source=order.source, folders=folders, output=reference.output
    )


def _first_near_enough(
    reference: ReferenceStages, wanted: VariantOrder, overrides: Overrides, notes: list[str]
) -> VariantStages:
    """`wanted` or the first of what may take its place that keeps the limits nobody asked for, else
    the last; `notes` hear what was passed over. A limit for a variant by its name asks for it."""
    if wanted.name in named_in(overrides):
        return VariantStages(reference, wanted)

    def reason_against(each: VariantStages) -> str:
        found = found_of(each.trial(), reference.output)
        return "; ".join(not_kept(reference.output.promised(each.order.scheme.name), found))

    return first_without_reason(
        [VariantStages(reference, one) for one in (wanted, *wanted.instead)],
        reason_against,
        name=lambda each: each.order.name,
        notes=notes,
        progress=reference.cache.progress,
    )


def _exported(stages: VariantStages) -> ExportedGraph:
    order = stages.order
    try:
        folder = stages.folder
    except Refused as error:
        raise Refused(f"variant {order.name}: {error}") from error
    nodes, kept = stages.reference.record.nodes, {}
    if not order.is_reference:
        record = EncoderVariantRecord.read(folder)
        nodes, kept = record.nodes, record.kept_fp32
    trial = stages.trial()
    return ExportedGraph(
        name=order.name,
        device=order.device.value,
        scheme=order.scheme.name,
        fidelity=trial.fidelity,
        golden=trial.golden,
        nodes=sum(nodes.values()),
        kept_fp32=kept,
    )
