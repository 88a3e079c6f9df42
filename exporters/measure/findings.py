"""The form of a verdict on a bundle, whatever its kind: a check a variant, and why others were
skipped; as plain data, as the report's file, and as parts of its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from exporters.measure.build_report import limits_text
from exporters.measure.thresholds import Limits

Json = dict[str, Any]


class AnyCheck(Protocol):
    """The findings on a variant."""

    @property
    def variant(self) -> str:
        """Its name."""

    @property
    def limits(self) -> Limits:
        """The limits that it is held to."""

    @property
    def failures(self) -> list[str]:
        """The limits that do not hold, a line each."""

    def figures(self) -> Json:
        """The figures of its kind, as plain data."""


C = TypeVar("C", bound=AnyCheck)


@dataclass(frozen=True, kw_only=True)
class Findings(Generic[C]):
    """The findings on a bundle: each variant that runs here, and why others do not.

    `difference`: the fp32 graphs' from PyTorch, where it is known.
    """

    name: str
    checks: tuple[C, ...]
    skipped: dict[str, str]
    overrides: dict[str, float]
    difference: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every variant that runs here does pass, and there is one."""
        return bool(self.checks) and not any(check.failures for check in self.checks)

    def more(self) -> Json:
        """Further fields of the verdict's kind, as plain data."""
        return {}


def verdict_result(verdict: Findings[Any]) -> Json:
    """A verdict as plain data."""
    return {
        "name": verdict.name,
        "passed": verdict.passed,
        "difference_from_torch": verdict.difference,
        **verdict.more(),
        "thresholds_overridden": verdict.overrides,
        "variants": {check.variant: _check_result(check) for check in verdict.checks},
        "skipped": verdict.skipped,
    }


def _check_result(check: AnyCheck) -> Json:
    return {
        "passed": not check.failures,
        "failures": check.failures,
        "limits": {str(measure): limit for measure, limit in check.limits.items()},
        **check.figures(),
    }


def verdict_json(verdict: Findings[Any]) -> bytes:
    """`verdict_result`, indented, with a final newline."""
    encoded = msgspec.json.encode(verdict_result(verdict), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def title_lines(verdict: Findings[Any]) -> list[str]:
    """The title of a verdict's page."""
    return [f"# {verdict.name}: {'passed' if verdict.passed else 'FAILED'}", ""]


def limits_section(verdict: Findings[Any]) -> list[str]:
    """The section of a page that tells which limits were kept."""
    lines = ["", "## Limits", ""]
    for check in verdict.checks:
        state = "; ".join(check.failures) if check.failures else "kept"
        lines.append(f"- {check.variant}: {limits_text(check.limits)}: {state}")
    return lines


def skipped_section(verdict: Findings[Any]) -> list[str]:
    """The section of a page that tells why variants were not run, where some were not."""
    if not verdict.skipped:
        return []
    return ["", "## Not run here", "", *(f"- {one}: {why}" for one, why in verdict.skipped.items())]
