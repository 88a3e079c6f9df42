"""From a captioner's folder to graphs, their figures, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path

from exporters.bundle.orders import VariantOrder, variants_named
from exporters.cache import Cache
from exporters.caption.package import CaptionProduct
from exporters.caption.records import PROMISES
from exporters.caption.stages import CaptionStages, CaptionVariantStages
from exporters.conditioned.package import ConditionedReport, check_export, made_of, package
from exporters.conditioned.stages import check_orders
from exporters.model.caption import CaptionShape, Writing, read_caption_shape, read_writing
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


def export_caption(
    order: CaptionOrder,
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
    shape, writing = order.check()
    limits = overrides or {}
    check_export(order.variants, order.source, out, name=name, overrides=limits, replace=replace)
    reference = CaptionStages(order.source, cache)
    stages = [CaptionVariantStages(reference, one, shape) for one in order.variants]
    product = CaptionProduct(
        source=order.source,
        made=made_of(reference.record, stages),
        shape=shape,
        writing=writing,
        golden=reference.golden(),
    )
    report = package(
        product,
        out,
        name=name,
        overrides=limits,
        replace=replace,
        cache=cache,
        reference=reference.folder,
    )
    return replace_fields(report, notes=writing.notes)
