"""From a captioner's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.orders import VariantOrder, variants_named
from exporters.bundle.package import check_place, settle
from exporters.cache import Cache
from exporters.caption.package import CaptionProduct, package
from exporters.caption.records import PROMISES
from exporters.caption.stages import CaptionStages, CaptionVariantStages
from exporters.conditioned.records import ConditionedRecord
from exporters.conditioned.stages import LIBRARIES, check_orders, folders_of
from exporters.conditioned.verdict import MEASURED, ConditionedVerdict
from exporters.measure.thresholds import check_overrides, form_names
from exporters.model.caption import CaptionShape, Writing, read_caption_shape, read_writing
from exporters.model.route import library_versions
from exporters.model.source import Source

DEFAULT_VARIANTS = "cpu-int8-b64"


def default_variants() -> tuple[VariantOrder, ...]:
    """Those of a bundle where none are named."""
    return variants_named(DEFAULT_VARIANTS)


@dataclass(frozen=True, kw_only=True)
class CaptionOrder:
    """What to make: which model, in which variants."""

    source: Source
    variants: tuple[VariantOrder, ...]

    def check(self) -> tuple[CaptionShape, Writing]:
        """Refuse what does not go together, before any work; the model's sizes, and how it writes.

        Raises:
            Refused: with the reason.
            ExportError: the source is incomplete.
        """
        shape = read_caption_shape(self.source)
        check_orders(self.variants, PROMISES, models="captioners")
        return shape, read_writing(self.source, shape)


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """What came of a bundle's making. `made` is False where the same bundle was there already;
    `notes` say what of the source is left aside."""

    bundle: Path
    made: bool
    bytes: int
    record: ConditionedRecord
    verdict: ConditionedVerdict
    notes: tuple[str, ...]


def export_caption(
    order: CaptionOrder,
    out: Path,
    *,
    name: str,
    cache: Cache,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> CaptionReport:
    """Make the bundle `name` of `order` at `out`.

    A bundle of the same source is brought up to date; anything else there needs `replace`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: something else failed, `out` is taken, or a form is too far from fp32.
    """
    shape, writing = order.check()
    limits = overrides or {}
    check_overrides(limits, form_names(one.name for one in order.variants), measures=MEASURED)
    check_place(out, name, order.source.origin, replace=replace)
    reference = CaptionStages(order.source, cache)
    stages = [CaptionVariantStages(reference, one, shape) for one in order.variants]
    product = CaptionProduct(
        source=order.source,
        shape=shape,
        writing=writing,
        record=reference.record,
        libraries=library_versions(LIBRARIES),
        forms=tuple(form for one in stages for form in one.forms()),
        folders=folders_of(stages),
        golden=reference.golden(),
    )
    made, verdict = package(product, out, name=name, overrides=limits, replace=replace)
    return CaptionReport(
        bundle=out,
        made=made,
        bytes=settle(out, cache, reference.folder),
        record=product.record,
        verdict=verdict,
        notes=writing.notes,
    )
