"""How near to fp32 a graph is said to be, before anybody measures."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.bundle.causal_lm import Fidelity

MIN_POSITIONS = 500
"""Fewer positions say too little of a graph."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """How far from fp32 a scheme may be: mean KL in nats at most, top-1 agreement at least."""

    kl: float
    top1: float

    def kept_by(self, fidelity: Fidelity) -> bool:
        """Whether `fidelity` was measured over enough positions, and is near enough."""
        enough = fidelity.positions >= MIN_POSITIONS
        return enough and fidelity.kl <= self.kl and fidelity.top1 >= self.top1
