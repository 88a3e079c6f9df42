"""What was found of the forms of an encoder and a decoder, and whether that is near enough to
fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from exporters.conditioned.samples import Trial
from exporters.measure.build_report import limits_text
from exporters.measure.findings import (
    Findings,
    Json,
    limits_section,
    skipped_section,
    title_lines,
)
from exporters.measure.thresholds import Limits, Measure, not_kept
from nsedge.bundle.conditioning import ConditionedFidelity

MEASURED = frozenset({Measure.KL, Measure.TOP1, Measure.GOLDEN})
"""What has a limit."""
Promises = Mapping[str, Limits]
"""By scheme, what is promised of its forms; there is no other scheme."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found of a form; `measured` is None where the fp32 graphs are not in the cache."""

    variant: str
    limits: Limits
    golden: float
    recorded: ConditionedFidelity | None
    measured: ConditionedFidelity | None = None
    texts: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """What of the limits does not hold."""
        found = {Measure.GOLDEN: self.golden}
        newest = self.measured or self.recorded
        if newest is not None:
            found[Measure.KL], found[Measure.TOP1] = newest.kl, newest.top1
        return not_kept(self.limits, found)

    def figures(self) -> Json:
        """The figures, as plain data."""
        return {
            "golden_top1": self.golden,
            "fidelity_recorded": msgspec.to_builtins(self.recorded),
            "fidelity_measured": msgspec.to_builtins(self.measured),
            "texts": self.texts,
        }


class ConditionedVerdict(Findings[Check]):
    """The findings on a bundle of an encoder and a decoder."""


def check_of(variant: str, promised: Limits, trial: Trial[Any], asked: Limits) -> Check:
    """A form under what its scheme promises, and what was asked for."""
    return Check(
        variant=variant,
        limits=promised | asked,
        golden=trial.golden,
        recorded=trial.fidelity,
        texts=trial.texts,
    )


def verdict_page(verdict: ConditionedVerdict) -> str:
    """The same for people, as a page of Markdown."""
    lines = title_lines(verdict)
    if verdict.difference is not None:
        lines += [
            f"The fp32 graphs differ from PyTorch by {verdict.difference:.1e} nats at most.",
            "",
        ]
    lines += ["| Variant | KL (nats) | top-1 | positions | golden top-1 |", "|---|---|---|---|---|"]
    for check in verdict.checks:
        found = check.measured or check.recorded
        cells = ["not measured", "", ""]
        if found is not None:
            cells = [f"{found.kl:.5f}", f"{found.top1:.4f}", str(found.positions)]
        lines.append("| " + " | ".join([check.variant, *cells, f"{check.golden:.4f}"]) + " |")
    lines += limits_section(verdict)
    for check in verdict.checks:
        lines += ["", f"## What {check.variant} writes", "", *(f"-{text}" for text in check.texts)]
    return "\n".join([*lines, *skipped_section(verdict)]) + "\n"


def verdict_lines(verdict: ConditionedVerdict) -> list[str]:
    """The forms and what was found of them, for a terminal."""
    lines = []
    for check in verdict.checks:
        lines.append(f"  {check.variant}: {'FAILED' if check.failures else 'passed'}")
        lines.append(f"    golden samples: {check.golden:.1%} of the tokens are the likeliest")
        for how, found in (("as recorded", check.recorded), ("measured now", check.measured)):
            if found is not None:
                lines.append(f"    against fp32, {how}: {fidelity_text(found)}")
        lines.append(f"    limits: {limits_text(check.limits)}")
        lines += [f"    FAILED: {reason}" for reason in check.failures]
    lines += [f"  {name} does not run here: {why}" for name, why in verdict.skipped.items()]
    return lines


def fidelity_text(fidelity: ConditionedFidelity) -> str:
    """One line."""
    return (
        f"KL {fidelity.kl:.5f} nats, top-1 {fidelity.top1:.2%}, over {fidelity.positions} positions"
    )
