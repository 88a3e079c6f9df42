"""From a model folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path

import msgspec

from exporters.bundle.choosing import first_without_reason
from exporters.bundle.forms import checks_of, shortfall, without_far_forms
from exporters.bundle.orders import Order
from exporters.bundle.package import Product, check_place, package, settle
from exporters.bundle.stages import ReferenceStages, VariantStages
from exporters.cache import Cache, Inputs
from exporters.errors import Refused
from exporters.graph.records import NATIVE_SUFFIX, Exported, ExportedVariant, VariantRecord
from exporters.measure.thresholds import Overrides, check_overrides, form_names, named_in
from exporters.measure.verdict import Verdict
from exporters.model.route import library_versions
from exporters.model.source import LINEAGE_FILE
from exporters.quantise.schemes import Method


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a bundle's making. `made` is False where the same bundle was there already."""

    bundle: Path
    made: bool
    bytes: int
    exported: Exported
    verdict: Verdict


class Export:
    """One order: the stages of its model and of each of its variants."""

    def __init__(self, order: Order, cache: Cache) -> None:
        order.check()
        self.order = order
        self._reference = ReferenceStages(
            order.source, cache, max_context=order.max_context, route=order.route
        )
        self._variants = [
            [VariantStages(self._reference, each) for each in (variant, *variant.instead)]
            for variant in order.variants
        ]

    @property
    def reference(self) -> ReferenceStages:
        """The stages of the model."""
        return self._reference

    @property
    def stages(self) -> list[VariantStages]:
        """Those of every variant that may be made."""
        return [each for several in self._variants for each in several]

    @property
    def inputs(self) -> Inputs:
        """All that decides what `product` gives, but for limits."""
        named = [{s.order.name: s.inputs for s in stages} for stages in self._variants]
        return {"reference": self._reference.inputs, "variants": named}

    def product(self, overrides: Overrides) -> Product:
        """Every graph and all that is said of it, under limits that were asked for.

        Raises:
            Refused: the model cannot be exported, or not in one of the variants, which is named.
            ExportError: something else failed.
        """
        reference, source = self._reference, self.order.source
        record = reference.record
        source.check_vocabulary(record.vocab_size)
        notes = list(source.notes())
        taken = [self._first_near_enough(stages, overrides, notes) for stages in self._variants]
        exported = Exported(
            origin=source.origin,
            revision=source.revision,
            parameters=source.parameters(),
            context_length=record.context_length,
            vocab_size=record.vocab_size,
            difference=record.difference,
            recorded_difference=record.recorded_difference,
            libraries=library_versions(self.order.route.libraries),
            reference=str(reference.folder.relative_to(reference.cache.root)),
            golden=reference.golden(),
            prompts=reference.prompts,
            answers=reference.answers(),
            variants=tuple(map(self._exported, taken)),
            notes=tuple(notes),
        )
        folders = {stages.order.name: stages.folder for stages in taken}
        return Product(exported=exported, source=source, folders=folders)

    def _first_near_enough(
        self, stages: Sequence[VariantStages], overrides: Overrides, notes: list[str]
    ) -> VariantStages:
        """The first whose standard form keeps the limits that nobody asked for, else the last;
        `notes` hear what was passed over. A limit for the first by its name asks for that one."""
        first = stages[0].order.name
        if any(name in (first, first + NATIVE_SUFFIX) for name in named_in(overrides)):
            return stages[0]

        def reason_against(each: VariantStages) -> str | None:
            (standard,) = checks_of(self._standard(each), overrides)
            return shortfall(standard, overrides)

        return first_without_reason(
            stages,
            reason_against,
            name=lambda each: each.order.name,
            notes=notes,
            progress=self._reference.cache.progress,
        )

    def _standard(self, stages: VariantStages) -> ExportedVariant:
        """The variant without its native form."""
        order = stages.order
        try:
            folder = stages.folder
        except Refused as error:
            raise Refused(
                f"variant {order.name}: {error}{self._remedy(order.scheme.method)}"
            ) from (error)
        record, own = stages.record, None
        if not order.is_reference:
            own = VariantRecord.read(folder)
        return ExportedVariant(
            name=order.name,
            device=order.device.value,
            scheme=order.scheme.name,
            io=record.io,
            kv=record.kv,
            trial=stages.trial(),
            native=None,
            native_lacks=None,
            nodes=sum((own or record).nodes.values()),
            kept_fp32={} if own is None else own.kept_fp32,
            evened={} if own is None else own.evened,
        )

    def _exported(self, stages: VariantStages) -> ExportedVariant:
        return msgspec.structs.replace(
            self._standard(stages),
            native=stages.native_trial(),
            native_lacks=stages.native_lacks(),
        )

    def _remedy(self, method: Method) -> str:
        merged = (self.order.source.folder / LINEAGE_FILE).is_file()
        if method is not Method.EXACT or not merged:
            return ""
        return "; an adapter was merged into these weights, which took them off that grid: use int8"


def export_bundle(
    order: Order,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> Report:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a variant is too far from fp32.
    """
    export = Export(order, cache)
    check_overrides(overrides or {}, form_names(variant.name for variant in order.variants))
    check_place(out, name, order.source.origin, replace=replace)
    product = export.product(overrides or {})
    return pack(product, out, name=name, cache=cache, overrides=overrides, replace=replace)


def pack(
    product: Product,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> Report:
    """Make the bundle `name` of what was exported, at `out`.

    A native form that is too far from fp32 is left out, unless limits were asked for that it fails.

    Raises:
        ExportError: `out` is taken, or a variant is too far from fp32.
    """
    exported = without_far_forms(product.exported, overrides or {})
    product = with_fields(product, exported=exported)
    made, verdict = package(product, out, name=name, overrides=overrides or {}, replace=replace)
    size = settle(out, cache, cache.root / product.exported.reference)
    return Report(
        bundle=out,
        made=made,
        bytes=size,
        exported=product.exported,
        verdict=verdict,
    )
