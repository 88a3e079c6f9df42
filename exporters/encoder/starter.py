"""The bundles of the starter models that read texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache
from exporters.encoder.build import EncoderOrder, EncoderReport, export_encoder
from exporters.encoder.schemes import default_variants
from exporters.encoder.starter_folder import VECTORS, Starter

NAME = VECTORS.name


def export_encoder_starter(
    cache: Cache,
    out: Path,
    *,
    starter: Starter = VECTORS,
    variants: tuple[VariantOrder, ...] | None = None,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> EncoderReport:
    """Make the bundle of a starter at `out`, from the cache as far as that goes.

    Raises:
        ExportError: the package cannot be had, or `out` is taken by another thing.
    """
    order = EncoderOrder(source=starter.source(cache), variants=variants or default_variants())
    return export_encoder(
        order, out, name=starter.name, cache=cache, overrides=overrides, replace=replace
    )
