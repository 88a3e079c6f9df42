"""The bundle of the starter model for vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache
from exporters.encoder.build import EncoderOrder, EncoderReport, export_encoder
from exporters.encoder.schemes import default_variants
from exporters.encoder.starter_folder import embeddings_source

NAME = "all-minilm-l6-v2"


def export_embeddings_starter(
    cache: Cache,
    out: Path,
    *,
    variants: tuple[VariantOrder, ...] | None = None,
    overrides: Mapping[str, float] | None = None,
    replace: bool = False,
) -> EncoderReport:
    """Make the starter's bundle at `out`, from the cache as far as that goes.

    Raises:
        ExportError: the package cannot be had, or `out` is taken by another thing.
    """
    order = EncoderOrder(source=embeddings_source(cache), variants=variants or default_variants())
    return export_encoder(order, out, name=NAME, cache=cache, overrides=overrides, replace=replace)
