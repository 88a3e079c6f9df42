"""What the command prints: for people as lines, for programs as one object."""

from __future__ import annotations

from typing import Any

import msgspec

from exporters.bundle.build import Report
from exporters.bundle.forms import notes_on
from exporters.commands.made import made_line, made_result
from exporters.graph.records import Exported, ExportedVariant
from exporters.measure.build_report import limits_text, report_result
from exporters.measure.verdict import Check, Verdict
from nsedge.bundle.causal_lm import Fidelity

Json = dict[str, Any]


def export_result(report: Report) -> Json:
    """A made bundle as plain data; figures of the first variant, and of all by name."""
    exported = report.exported
    first = exported.variants[0]
    return {
        **made_result(report),
        "difference_from_torch": exported.difference,
        "difference_from_recorded": exported.recorded_difference,
        **_variant_result(first),
        "variants": {variant.name: _variant_result(variant) for variant in exported.variants},
        "thresholds_overridden": report.verdict.overrides,
        "notes": report.verdict.notes,
    }


def _variant_result(variant: ExportedVariant) -> Json:
    native = None if variant.native is None else msgspec.to_builtins(variant.native.fidelity)
    return {
        "nodes": variant.nodes,
        "kept_fp32_bytes": variant.kept_fp32,
        "fidelity": msgspec.to_builtins(variant.trial.fidelity),
        "fidelity_native": native,
        "native_lacks": variant.native_lacks,
    }


def export_lines(report: Report) -> list[str]:
    """A made bundle for people."""
    return [made_line(report), *graph_lines(report.exported)]


def graph_lines(exported: Exported) -> list[str]:
    """What was exported, for people."""
    lines = [f"  fp32 graph against PyTorch: {_difference_text(exported.difference)}"]
    if exported.recorded_difference is not None:
        told = f"{exported.recorded_difference:.1e} nats at most"
        lines.append(f"  fp32 graph against the logits that came with the model: {told}")
    for variant in exported.variants:
        kept = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in variant.kept_fp32.items())
        lines += [
            f"  {variant.name}: {variant.nodes} nodes; not quantised: {kept or 'everything'}",
            f"    against fp32: {fidelity_text(variant.trial.fidelity)}",
            f"    on native operators: {_native_text(variant)}",
        ]
    return lines + [f"  note: {note}" for note in (*exported.notes, *notes_on(exported.variants))]


def _difference_text(difference: float | None) -> str:
    if difference is None:
        return "not compared, it was built without it"
    return f"{difference:.1e} nats at most"


def _native_text(variant: ExportedVariant) -> str:
    if variant.native is not None:
        return fidelity_text(variant.native.fidelity)
    return f"none: {variant.native_lacks}"


def verify_result(verdict: Verdict, *, bundle: str, files: int) -> Json:
    """A verdict as plain data."""
    return {"bundle": bundle, "files": files, **report_result(verdict)}


def verify_lines(verdict: Verdict, *, bundle: str, files: int) -> list[str]:
    """A verdict for people."""
    lines = [
        f"{bundle}: {'passed' if verdict.passed else 'FAILED'}",
        f"  {files} files, every SHA-256 right",
    ]
    for check in verdict.checks:
        lines += _check_lines(check)
    lines += [f"  {name} does not run here: {why}" for name, why in verdict.skipped.items()]
    for i, prompt in enumerate(verdict.prompts):
        exact = None if verdict.answers is None else verdict.answers[i]
        lines += [f"  > {prompt}"] + ([] if exact is None else [f"    fp32: {exact!r}"])
        lines += [f"    {c.variant}: {c.answers[i]!r}" for c in verdict.checks if c.answers]
    return lines


def _check_lines(check: Check) -> list[str]:
    golden = check.golden
    lines = [
        f"  {check.variant}: {'passed' if check.passed else 'FAILED'}",
        f"    golden prompts: {golden.tokens} tokens, top-1 {golden.top1:.3f}, log-probability"
        f" off by {golden.difference:.4f} nats on average",
    ]
    if check.recorded is not None:
        lines.append(f"    against fp32, as recorded: {fidelity_text(check.recorded)}")
    if check.measured is not None:
        lines.append(f"    against fp32, measured now: {fidelity_text(check.measured)}")
    else:
        lines.append("    not measured anew: the fp32 graph it came from is not in the cache")
    if check.text is not None:
        lines.append(f"    over the text given: {fidelity_text(check.text)}")
    lines.append(f"    limits: {limits_text(check.limits)}")
    return lines + [f"    FAILED: {reason}" for reason in check.failures]


def fidelity_text(fidelity: Fidelity) -> str:
    """One line."""
    return (
        f"KL {fidelity.kl:.4f} nats, top-1 {fidelity.top1:.3f}, perplexity"
        f" {fidelity.perplexity:.2f} (fp32 {fidelity.perplexity_fp32:.2f}),"
        f" {fidelity.positions} positions"
    )
