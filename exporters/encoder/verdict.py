"""What was found of an encoder's variants, and whether that is near enough to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from exporters.encoder.outputs import measures_of
from exporters.encoder.records import AnyFidelity
from exporters.measure.build_report import limits_text
from exporters.measure.thresholds import Limits, Measure, not_kept
from nsedge.bundle.headed import ScoreFidelity

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EncoderCheck:
    """What was found of a variant. `golden`: how near it comes to the golden samples, as
    `golden_measure` has it.

    `measured` is None where the fp32 graph is not in the cache; `text` is over texts of the user's,
    where he gave some: told, not judged.
    """

    variant: str
    limits: Limits
    golden_measure: Measure
    golden: float
    recorded: AnyFidelity | None
    measured: AnyFidelity | None = None
    text: AnyFidelity | None = None

    @property
    def failures(self) -> list[str]:
        """What of the limits does not hold."""
        newest = self.measured or self.recorded
        found = {} if newest is None else measures_of(newest)
        return not_kept(self.limits, {self.golden_measure: self.golden, **found})


@dataclass(frozen=True, kw_only=True)
class EncoderVerdict:
    """What was found of a bundle: each variant that runs here, and why others do not.

    `difference`: the fp32 graph's from PyTorch, where it is known. `notes` are those of the export.
    """

    name: str
    checks: tuple[EncoderCheck, ...]
    skipped: dict[str, str]
    overrides: dict[str, float]
    difference: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every variant that runs here does, and there is one."""
        return bool(self.checks) and not any(check.failures for check in self.checks)


def verdict_result(verdict: EncoderVerdict) -> Json:
    """A verdict as plain data."""
    return {
        "name": verdict.name,
        "passed": verdict.passed,
        "difference_from_torch": verdict.difference,
        "notes": verdict.notes,
        "thresholds_overridden": verdict.overrides,
        "variants": {check.variant: _check_result(check) for check in verdict.checks},
        "skipped": verdict.skipped,
    }


def _check_result(check: EncoderCheck) -> Json:
    return {
        "passed": not check.failures,
        "failures": check.failures,
        "limits": {str(measure): limit for measure, limit in check.limits.items()},
        str(check.golden_measure): check.golden,
        "fidelity_recorded": msgspec.to_builtins(check.recorded),
        "fidelity_measured": msgspec.to_builtins(check.measured),
        "fidelity_text": msgspec.to_builtins(check.text),
    }


def verdict_json(verdict: EncoderVerdict) -> bytes:
    """`verdict_result`, indented, with a final newline."""
    encoded = msgspec.json.encode(verdict_result(verdict), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def verdict_page(verdict: EncoderVerdict) -> str:
    """The same for people, as a page of Markdown."""
    lines = [f"# {verdict.name}: {'passed' if verdict.passed else 'FAILED'}", ""]
    if verdict.difference is not None:
        told = f"{verdict.difference:.1e} at most (of a vector of length 1, or of logits)"
        lines += [f"The fp32 graph differs from PyTorch by {told}.", ""]
    lines += _table(verdict)
    lines += ["", "## Limits", ""]
    for check in verdict.checks:
        state = "; ".join(check.failures) if check.failures else "kept"
        lines.append(f"- {check.variant}: {limits_text(check.limits)}: {state}")
    if verdict.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in verdict.notes)]
    if verdict.skipped:
        lines += ["", "## Not run here", ""]
        lines += [f"- {name}: {why}" for name, why in verdict.skipped.items()]
    return "\n".join(lines) + "\n"


def verdict_lines(verdict: EncoderVerdict) -> list[str]:
    """The variants and what was found of them, for a terminal."""
    lines = []
    for check in verdict.checks:
        lines.append(f"  {check.variant}: {'FAILED' if check.failures else 'passed'}")
        lines.append(f"    golden samples: {check.golden_measure} {check.golden:.6f}")
        if check.recorded is not None:
            lines.append(f"    against fp32, as recorded: {fidelity_text(check.recorded)}")
        if check.measured is not None:
            lines.append(f"    against fp32, measured now: {fidelity_text(check.measured)}")
        if check.text is not None:
            lines.append(f"    over the texts given: {fidelity_text(check.text)}")
        lines.append(f"    limits: {limits_text(check.limits)}")
        lines += [f"    FAILED: {reason}" for reason in check.failures]
    lines += [f"  {name} does not run here: {why}" for name, why in verdict.skipped.items()]
    return lines


def _table(verdict: EncoderVerdict) -> list[str]:
    """How near each variant is to fp32."""
    found = {check.variant: check.measured or check.recorded for check in verdict.checks}
    names = next((list(measures_of(one)) for one in found.values() if one is not None), [])
    heads = ["Variant", *names, "texts", "golden"]
    lines = ["## Nearness to fp32", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for check in verdict.checks:
        one = found[check.variant]
        cells = ["not measured", *[""] * len(names)]
        if one is not None:
            cells = [f"{value:.6f}" for value in measures_of(one).values()] + [str(one.texts)]
        lines.append("| " + " | ".join([check.variant, *cells, f"{check.golden:.6f}"]) + " |")
    return lines


def fidelity_text(fidelity: AnyFidelity) -> str:
    """One line."""
    if isinstance(fidelity, ScoreFidelity):
        return (
            f"best label the same in {fidelity.top1:.2%} of {fidelity.rows} rows, scores off by"
            f" {fidelity.error:.6f} on average, {fidelity.error_most:.6f} at most,"
            f" {fidelity.texts} texts"
        )
    return (
        f"cosine {fidelity.cosine:.6f} on average, {fidelity.cosine_least:.6f} at least,"
        f" {fidelity.texts} texts"
    )
