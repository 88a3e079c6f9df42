"""What the commands do with models of texts and pictures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands.made import made_line, made_result
from exporters.commands.options import place, says_variants, wanted_variants
from exporters.commands.verified import verified
from exporters.errors import ExportError
from exporters.measure.thresholds import read_overrides
from exporters.model.source import Source

if TYPE_CHECKING:
    from exporters.dual_encoder.build import DualReport
    from nsedge.bundle.dual_encoder import DualEncoder
    from nsedge.bundle.manifest import Bundle


def make_dual_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of a dual encoder's folder as the options of `add_bundle` say."""
    from exporters.dual_encoder.build import DualOrder, export_dual_encoder

    order = DualOrder(source=source, max_context=arguments.context)
    if says_variants(arguments):
        order = DualOrder(
            source=source, max_context=arguments.context, variants=wanted_variants(arguments)
        )
    report = export_dual_encoder(
        order,
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return _exported(report)


def _exported(report: DualReport) -> Answer:
    record = report.record
    height, width = record.steps.size
    trials = {made.name: msgspec.to_builtins(made.trial) for made in report.towers}
    result = {
        **made_result(report),
        "difference_from_torch": record.difference,
        "dimensions": record.dimensions,
        "context_length": record.context_length,
        "picture": [height, width],
        "variants": trials,
        "thresholds_overridden": report.verdict.overrides,
    }
    lines = [
        made_line(report),
        f"  {record.dimensions} numbers of length 1; texts of {record.context_length} tokens at"
        f" most, pictures of {height} x {width}",
        f"  fp32 graphs against PyTorch: {record.difference:.1e} at most",
    ]
    for made in report.towers:
        texts, pictures = made.trial.texts, made.trial.pictures
        lines.append(
            f"  {made.name} against fp32: cosine {texts.cosine_least:.6f} at least of"
            f" {texts.texts} texts, {pictures.cosine_least:.6f} of {pictures.texts} pictures"
        )
    return result, lines, SUCCESS


def verify_dual_bundle(
    bundle: Bundle[DualEncoder], arguments: argparse.Namespace, cache: Cache
) -> Answer:
    """Check a dual encoder's bundle as the options of `verify` say.

    Raises:
        ExportError: options that are for other models, or a report within the bundle.
    """
    from exporters.dual_encoder.verify import verify_dual_encoder
    from exporters.encoder.verdict import verdict_lines, verdict_page
    from exporters.measure.findings import verdict_json, verdict_result

    if arguments.answers or arguments.prompts is not None or arguments.text is not None:
        raise ExportError("--text, --answers and --prompts are not for models of pictures")
    verdict = verify_dual_encoder(bundle, cache, overrides=read_overrides(arguments.threshold))
    return verified(
        bundle,
        passed=verdict.passed,
        result=verdict_result(verdict),
        lines=verdict_lines(verdict),
        report=arguments.report,
        pages=lambda: (verdict_json(verdict), verdict_page(verdict)),
    )
