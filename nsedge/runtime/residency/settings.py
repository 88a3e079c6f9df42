"""Within which bounds models are kept in memory, as values; the configuration maps onto this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nsedge.runtime.machine.amounts import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencySettings:
    """Within which bounds models are kept. Sizes are bytes, durations seconds."""

    budget: Room = field(default_factory=Room)
    keep_alive_s: float = math.inf
    """Idle seconds after which a model leaves; infinite is never."""
    keep_alives: Mapping[str, float] = field(default_factory=dict)
    """Models with another one, by name or alias."""
    patience_s: float = 10.0
    """How long a load waits for models in use, before they take no new requests."""
    retry_s: float = 5.0
    """How long the error of a failed load stands before a request tries again."""
    sweep_s: float = 0.5
    """How often is looked who has been idle for too long."""
    measure_s: float = 5.0
    """How often all are measured, and held to the budget, while nothing is loaded."""
    preload_top: int = 0
    """How many of the likeliest models to have in memory before they are asked for."""
    preload_share: float = 0.25
    """How much of the budget they may hold together, of 1."""
    preload_idle_s: float = 2.0
    """Seconds without any request before one is loaded for a guess."""

    def keep_alive_of(self, names: Iterable[str]) -> float:
        """Idle seconds after which the model with these names leaves; the first that is known."""
        own = (self.keep_alives[name] for name in names if name in self.keep_alives)
        return next(own, self.keep_alive_s)
