"""What was found of an encoder's variants, and whether that is near enough to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from exporters.measure.build_report import limits_text
from exporters.measure.thresholds import Limits, Measure, not_kept
from nsedge.bundle.encoder import VectorFidelity

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class VectorCheck:
    """What was found of a variant. `golden`: the least cosine to the golden vectors.

    `measured` is None where the fp32 graph is not in the cache; `text` is over texts of the user's,
    where he gave some: told, not judged.
    """

    variant: str
    limits: Limits
    golden: float
    recorded: VectorFidelity | None
    measured: VectorFidelity | None = None
    text: VectorFidelity | None = None

    @property
    def failures(self) -> list[str]:
        """What of the limits does not hold."""
        found = {Measure.GOLDEN_COSINE: self.golden}
        newest = self.measured or self.recorded
        if newest is not None:
            found[Measure.COSINE] = newest.cosine
            found[Measure.COSINE_LEAST] = newest.cosine_least
        return not_kept(self.limits, found)


@dataclass(frozen=True, kw_only=True)
class VectorVerdict:
    """What was found of a bundle: each variant that runs here, and why others do not.

    `difference`: the fp32 graph's from PyTorch, where it is known. `notes` are those of the export.
    """

    name: str
    checks: tuple[VectorCheck, ...]
    skipped: dict[str, str]
    overrides: dict[str, float]
    difference: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every variant that runs here does, and there is one."""
        return bool(self.checks) and not any(check.failures for check in self.checks)


def verdict_result(verdict: VectorVerdict) -> Json:
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


def _check_result(check: VectorCheck) -> Json:
    return {
        "passed": not check.failures,
        "failures": check.failures,
        "limits": {str(measure): limit for measure, limit in check.limits.items()},
        "golden_cosine": check.golden,
        "fidelity_recorded": msgspec.to_builtins(check.recorded),
        "fidelity_measured": msgspec.to_builtins(check.measured),
        "fidelity_text": msgspec.to_builtins(check.text),
    }


def verdict_json(verdict: VectorVerdict) -> bytes:
    """`verdict_result`, indented, with a final newline."""
    encoded = msgspec.json.encode(verdict_result(verdict), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def verdict_page(verdict: VectorVerdict) -> str:
    """The same for people, as a page of Markdown."""
    lines = [f"# {verdict.name}: {'passed' if verdict.passed else 'FAILED'}", ""]
    if verdict.difference is not None:
        told = f"{verdict.difference:.1e} at most in any number of a vector of length 1"
        lines += [f"The fp32 graph differs from PyTorch by {told}.", ""]
    lines += ["## Cosines to fp32's vectors", ""]
    lines += ["| Variant | mean | least | texts | least of golden |", "|---|---|---|---|---|"]
    for check in verdict.checks:
        found = check.measured or check.recorded
        cells = ["not measured", "", ""]
        if found is not None:
            cells = [f"{found.cosine:.6f}", f"{found.cosine_least:.6f}", str(found.texts)]
        lines.append("| " + " | ".join([check.variant, *cells, f"{check.golden:.6f}"]) + " |")
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


def verdict_lines(verdict: VectorVerdict) -> list[str]:
    """The variants and what was found of them, for a terminal."""
    lines = []
    for check in verdict.checks:
        lines.append(f"  {check.variant}: {'FAILED' if check.failures else 'passed'}")
        lines.append(f"    golden vectors: cosine {check.golden:.6f} at least")
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


def fidelity_text(fidelity: VectorFidelity) -> str:
    """One line."""
    return (
        f"cosine {fidelity.cosine:.6f} on average, {fidelity.cosine_least:.6f} at least,"
        f" {fidelity.texts} texts"
    )
