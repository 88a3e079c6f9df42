"""What the command prints: for people as lines, for programs as one object."""

from __future__ import annotations

from typing import Any

import msgspec

from exporters.recipe import Report
from exporters.verify import Check, Verdict
from nsedge import native
from nsedge.bundle import Fidelity

Json = dict[str, Any]


def export_result(report: Report) -> Json:
    """A made bundle as plain data."""
    return {
        "bundle": str(report.bundle),
        "made": report.made,
        "bytes": report.bytes,
        "nodes": report.nodes,
        "difference_from_torch": report.difference,
        "kept_fp32_bytes": report.kept_fp32,
        "fidelity": msgspec.to_builtins(report.fidelity),
        "fidelity_native": msgspec.to_builtins(report.native),
    }


def export_lines(report: Report) -> list[str]:
    """A made bundle for people."""
    kept = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in report.kept_fp32.items())
    state = "written" if report.made else "up to date"
    return [
        f"{report.bundle}: {state}, {report.bytes / 1e6:.0f} MB, {report.nodes} nodes",
        f"  fp32 graph against PyTorch: {_difference_text(report.difference)}",
        f"  not quantised: {kept or 'everything'}",
        f"  against fp32: {fidelity_text(report.fidelity)}",
        f"  on native operators: {_native_text(report)}",
    ]


def _difference_text(difference: float | None) -> str:
    if difference is None:
        return "not compared, it was built without it"
    return f"{difference:.1e} nats at most"


def _native_text(report: Report) -> str:
    if report.native is not None:
        return fidelity_text(report.native)
    return native.why_not() or "no form of this graph"


def verify_result(verdict: Verdict) -> Json:
    """A verdict as plain data."""
    return {
        "bundle": str(verdict.bundle),
        "passed": verdict.passed,
        "files": verdict.files,
        "variants": {check.variant: _check_result(check) for check in verdict.checks},
        "skipped": verdict.skipped,
    }


def _check_result(check: Check) -> Json:
    return {
        "passed": check.passed,
        "golden": {
            "passed": check.golden.passed,
            "tokens": check.golden.tokens,
            "top1": check.golden.top1,
            "logprob_difference": check.golden.difference,
        },
        "fidelity_recorded": msgspec.to_builtins(check.recorded),
        "fidelity_measured": msgspec.to_builtins(check.measured),
    }


def verify_lines(verdict: Verdict) -> list[str]:
    """A verdict for people."""
    lines = [
        f"{verdict.bundle}: {'passed' if verdict.passed else 'FAILED'}",
        f"  {verdict.files} files, every SHA-256 right",
    ]
    for check in verdict.checks:
        lines += _check_lines(check)
    lines += [f"  {name} does not run here: {why}" for name, why in verdict.skipped.items()]
    return lines


def _check_lines(check: Check) -> list[str]:
    golden = check.golden
    lines = [
        f"  {check.variant}: {'passed' if check.passed else 'FAILED'}",
        f"    golden prompts: {golden.tokens} tokens, top-1 {golden.top1:.3f}, log-probability"
        f" off by {golden.difference:.4f} nats on average:"
        f" {'within' if golden.passed else 'OUTSIDE'} tolerance",
    ]
    if check.recorded is not None:
        lines.append(f"    against fp32, as recorded: {fidelity_text(check.recorded)}")
    if check.measured is not None:
        lines.append(f"    against fp32, measured now: {fidelity_text(check.measured)}")
    else:
        lines.append("    not measured anew: the fp32 graph it came from is not in the cache")
    return lines


def fidelity_text(fidelity: Fidelity) -> str:
    """One line."""
    return (
        f"KL {fidelity.kl:.4f} nats, top-1 {fidelity.top1:.3f}, perplexity"
        f" {fidelity.perplexity:.2f} (fp32 {fidelity.perplexity_fp32:.2f}),"
        f" {fidelity.positions} positions"
    )
