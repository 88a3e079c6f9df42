"""What the commands do with captioners."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands.conditioned import conditioned_exported, verify_conditioned
from exporters.commands.options import place, says_variants, wanted_variants
from exporters.measure.thresholds import read_overrides
from exporters.model.source import Source

if TYPE_CHECKING:
    from nsedge.bundle.caption import Caption
    from nsedge.bundle.manifest import Bundle


def make_caption_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of a captioner's folder as the options of `add_bundle` say."""
    from exporters.caption.build import CaptionOrder, default_variants, export_caption
    from exporters.caption.importing import with_weights

    variants = wanted_variants(arguments) if says_variants(arguments) else default_variants()
    report = export_caption(
        CaptionOrder(source=with_weights(source, cache), variants=variants),
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return conditioned_exported(report)


def verify_caption_bundle(
    bundle: Bundle[Caption], arguments: argparse.Namespace, cache: Cache
) -> Answer:
    """Check a captioner's bundle as the options of `verify` say.

    Raises:
        ExportError: options that are for models which read text, or a report within the bundle.
    """
    from exporters.caption.verify import verify_caption

    return verify_conditioned(
        bundle,
        arguments,
        lambda overrides: verify_caption(bundle, cache, overrides=overrides),
    )
