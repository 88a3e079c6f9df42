"""From an encoder's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.build import LINKS
from exporters.bundle.orders import VariantOrder
from exporters.bundle.package import check_place, variant_digest
from exporters.cache import Cache
from exporters.encoder.package import EncoderProduct, package
from exporters.encoder.records import EncoderVariantRecord, ExportedEncoder, ExportedVectors
from exporters.encoder.schemes import check_variant, promised
from exporters.encoder.stages import LIBRARIES, ReferenceStages, VariantStages
from exporters.encoder.texts import reader_of
from exporters.encoder.verdict import VectorVerdict
from exporters.errors import Refused
from exporters.measure.thresholds import Overrides, check_overrides, named_in, not_kept
from exporters.model.encoder import read_shape
from exporters.model.route import library_versions
from exporters.model.source import Source
from nsedge.bundle.manifest import Bundle


@dataclass(frozen=True, kw_only=True)
class EncoderOrder:
    """What to make: which encoder, in which variants, reading how many tokens of a text."""

    source: Source
    variants: tuple[VariantOrder, ...]
    max_context: int | None = None

    def check(self) -> None:
        """Refuse what does not go together, before any work.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        shape = read_shape(self.source, max_context=self.max_context)
        reader_of(self.source, context_length=shape.context_length, vocab_size=shape.vocabulary)
        for variant in self.variants:
            check_variant(variant)


@dataclass(frozen=True, kw_only=True)
class EncoderReport:
    """What came of a bundle's making. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    exported: ExportedEncoder
    verdict: VectorVerdict


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
    order.check()
    limits = overrides or {}
    named = {one.name for wanted in order.variants for one in (wanted, *wanted.instead)}
    check_overrides(limits, named, vectors=True)
    check_place(out, name, order.source.origin, replace=replace)
    reference = ReferenceStages(order.source, cache, max_context=order.max_context)
    product = _product(order, reference, limits)
    made, verdict = package(product, out, name=name, overrides=limits, replace=replace)
    bundle = Bundle.open(out)
    cache.link(LINKS, variant_digest(bundle), reference.folder)
    return EncoderReport(
        bundle=out,
        made=made,
        bytes=sum(entry.bytes for entry in bundle.manifest.files.values()),
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
        variants=tuple(_exported(one, reference) for one in made),
        notes=tuple(notes),
    )
    folders = {one.order.name: one.folder for one in made}
    return EncoderProduct(exported=exported, source=order.source, folders=folders)


def _first_near_enough(
    reference: ReferenceStages, wanted: VariantOrder, overrides: Overrides, notes: list[str]
) -> VariantStages:
    """`wanted` or the first of what may take its place that keeps the limits nobody asked for, else
    the last; `notes` hear what was passed over. A limit for a variant by its name asks for it."""
    if wanted.name in named_in(overrides):
        return VariantStages(reference, wanted)
    *others, last = (VariantStages(reference, one) for one in (wanted, *wanted.instead))
    for each in others:
        try:
            reason = "; ".join(not_kept(promised(each.order.scheme.name), each.trial().found))
        except Refused as error:
            reason = str(error)
        if not reason:
            return each
        notes.append(f"{each.order.name} passed over: {reason}")
        reference.cache.progress.note(notes[-1])
    return last


def _exported(stages: VariantStages, reference: ReferenceStages) -> ExportedVectors:
    order = stages.order
    try:
        folder = stages.folder
    except Refused as error:
        raise Refused(f"variant {order.name}: {error}") from error
    nodes, kept = reference.record.nodes, {}
    if not order.is_reference:
        record = EncoderVariantRecord.read(folder)
        nodes, kept = record.nodes, record.kept_fp32
    trial = stages.trial()
    return ExportedVectors(
        name=order.name,
        device=order.device.value,
        scheme=order.scheme.name,
        fidelity=trial.fidelity,
        golden=trial.golden,
        nodes=sum(nodes.values()),
        kept_fp32=kept,
    )
