"""What was found of an encoder's variants, and whether that is near enough to fp32."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from exporters.encoder.outputs import measures_of
from exporters.encoder.records import AnyFidelity
from exporters.measure.build_report import limits_text
from exporters.measure.findings import (
    Findings,
    Json,
    limits_section,
    skipped_section,
    title_lines,
)
from exporters.measure.thresholds import Limits, Measure, not_kept
from nsedge.bundle.headed import ScoreFidelity


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

    def figures(self) -> Json:
        """The figures, as plain data."""
        return {
            str(self.golden_measure): self.golden,
            "fidelity_recorded": msgspec.to_builtins(self.recorded),
            "fidelity_measured": msgspec.to_builtins(self.measured),
            "fidelity_text": msgspec.to_builtins(self.text),
        }


@dataclass(frozen=True, kw_only=True)
class EncoderVerdict(Findings[EncoderCheck]):
    """The findings on an encoder's bundle. `notes` are those of the export."""

    notes: tuple[str, ...] = ()

    def more(self) -> Json:
        """The notes."""
        return {"notes": self.notes}


def verdict_page(verdict: EncoderVerdict) -> str:
    """The same for people, as a page of Markdown."""
    lines = title_lines(verdict)
    if verdict.difference is not None:
        told = f"{verdict.difference:.1e} at most (of a vector of length 1, or of logits)"
        lines += [f"The fp32 graph differs from PyTorch by {told}.", ""]
    lines += _table(verdict)
    lines += limits_section(verdict)
    if verdict.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in verdict.notes)]
    return "\n".join([*lines, *skipped_section(verdict)]) + "\n"


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
