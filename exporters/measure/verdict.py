"""The findings on a bundle's variants, and whether they are near enough to fp32."""

from __future__ import annotations

from dataclasses import dataclass

from exporters.graph.records import GoldenResult
from exporters.measure.thresholds import Limits, failures
from nsedge.bundle.causal_lm import Fidelity


@dataclass(frozen=True, kw_only=True)
class Check:
    """The findings on a variant. `measured` is None where the fp32 graph is not in the cache.

    `text` is fidelity over a text of the user's, where he gave one: told, not judged.
    """

    variant: str
    limits: Limits
    golden: GoldenResult
    recorded: Fidelity | None
    measured: Fidelity | None
    text: Fidelity | None = None
    answers: tuple[str, ...] = ()

    @property
    def fidelity(self) -> Fidelity | None:
        """The newest figures."""
        return self.measured or self.recorded

    @property
    def failures(self) -> list[str]:
        """The limits that do not hold, a line each."""
        return self.under(self.limits)

    def under(self, limits: Limits) -> list[str]:
        """Of other `limits`, those that do not hold."""
        return failures(limits, self.golden, self.fidelity)

    @property
    def passed(self) -> bool:
        """Whether all of them hold."""
        return not self.failures


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The findings on a bundle: each variant that runs here, and why others do not.

    `answers` are fp32's to `prompts`; None where its graph is not at hand. Differences are those
    of the fp32 graph from PyTorch and from recorded logits, in nats, where they are known. `notes`
    say what was chosen otherwise than is usual, and why.
    """

    name: str
    checks: tuple[Check, ...]
    skipped: dict[str, str]
    prompts: tuple[str, ...]
    answers: tuple[str, ...] | None
    overrides: dict[str, float]
    difference: float | None = None
    recorded_difference: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every variant that runs here does, and there is one."""
        return bool(self.checks) and all(check.passed for check in self.checks)
