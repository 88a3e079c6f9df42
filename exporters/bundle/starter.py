"""The starter model's bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporters.bundle.build import Report, export_bundle
from exporters.bundle.orders import Order, VariantOrder, usual_variant
from exporters.bundle.starter_folder import starter_source
from exporters.cache import Cache
from exporters.quantise.schemes import SCHEMES, STARTER_SCHEME, Device, KvFormat

NAME = "smollm2-135m-instruct"
VARIANTS = (usual_variant(SCHEMES[STARTER_SCHEME], KvFormat.FLOAT32, Device.CPU),)


def export_starter(
    cache: Cache,
    out: Path,
    *,
    variants: tuple[VariantOrder, ...] = VARIANTS,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> Report:
    """Make the starter's bundle at `out`, from the cache as far as that goes.

    Raises:
        ExportError: the package cannot be had, or `out` is taken by another thing.
    """
    order = Order(source=starter_source(cache), variants=variants)
    return export_bundle(order, out, name=NAME, cache=cache, overrides=overrides, replace=replace)
