"""What the commands do with encoders."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

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
    from exporters.bundle.orders import VariantOrder
    from exporters.encoder.build import EncoderReport
    from exporters.encoder.records import EncoderRecord
    from nsedge.bundle.encoder import Encoder
    from nsedge.bundle.headed import HeadedEncoder
    from nsedge.bundle.manifest import Bundle


def make_encoder_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of an encoder's folder as the options of `add_bundle` say."""
    from exporters.encoder.build import EncoderOrder, export_encoder

    order = EncoderOrder(
        source=source,
        variants=encoder_variants(arguments),
        max_context=arguments.context,
    )
    report = export_encoder(
        order,
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return encoder_exported(report)


def encoder_variants(arguments: argparse.Namespace) -> tuple[VariantOrder, ...]:
    """What was asked for, else all that encoders have."""
    from exporters.encoder.schemes import default_variants

    return wanted_variants(arguments) if says_variants(arguments) else default_variants()


def encoder_exported(report: EncoderReport) -> Answer:
    """What an encoder's export tells."""
    from exporters.encoder.verdict import fidelity_text

    exported = report.exported
    record = exported.record
    given, told = _given(record)
    result = {
        **made_result(report),
        "difference_from_torch": record.difference,
        "context_length": record.context_length,
        **given,
        "variants": {made.name: msgspec.to_builtins(made) for made in exported.variants},
        "notes": exported.notes,
        "thresholds_overridden": report.verdict.overrides,
    }
    lines = [
        made_line(report),
        f"  {told}, texts of {record.context_length} tokens at most",
        f"  fp32 graph against PyTorch: {record.difference:.1e} at most",
    ]
    for made in exported.variants:
        kept = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in made.kept_fp32.items())
        lines.append(f"  {made.name}: {made.nodes} nodes; not quantised: {kept or 'everything'}")
        lines.append(f"    against fp32: {fidelity_text(made.fidelity)}")
    lines += [f"  note: {note}" for note in exported.notes]
    return result, lines, SUCCESS


def _given(record: EncoderRecord) -> tuple[dict[str, Any], str]:
    """What a graph gives, for programs and for people."""
    from exporters.encoder.records import HeadSpec

    gives = record.gives
    if isinstance(gives, HeadSpec):
        head = msgspec.to_builtins(gives.head)
        labels = len(head.get("labels", ()))
        return {"head": head}, f"{head['type']}{f' of {labels} labels' if labels else ''}"
    length = "of length 1" if gives.normalised else "of any length"
    return (
        {
            "dimensions": gives.dimensions,
            "pooling": gives.pooling,
            "normalised": gives.normalised,
        },
        f"{gives.dimensions} numbers {length}, {gives.pooling} pooling",
    )


def verify_encoder_bundle(
    bundle: Bundle[Encoder | HeadedEncoder], arguments: argparse.Namespace, cache: Cache
) -> Answer:
    """Check an encoder's bundle as the options of `verify` say.

    Raises:
        ExportError: options that are for models which write text, or a report within the bundle.
    """
    from exporters.encoder.verdict import verdict_lines, verdict_page
    from exporters.encoder.verify import verify_encoder
    from exporters.measure.findings import verdict_json, verdict_result

    if arguments.answers or arguments.prompts is not None:
        raise ExportError("--answers and --prompts are for models that write text")
    overrides = read_overrides(arguments.threshold)
    verdict = verify_encoder(bundle, cache, text=arguments.text, overrides=overrides)
    return verified(
        bundle,
        passed=verdict.passed,
        result=verdict_result(verdict),
        lines=verdict_lines(verdict),
        report=arguments.report,
        pages=lambda: (verdict_json(verdict), verdict_page(verdict)),
    )
