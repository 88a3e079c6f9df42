"""Steps of sampling that take more than one number, and the names by which steps are ordered.

docs/sampling.md has every formula.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nsedge.api.bounds import within
from nsedge.errors import InvalidParameter

MAX_BREAKERS = 32
MAX_BREAKER_LENGTH = 40
WHOLE_CONTEXT = -1
MAX_LAST_N = 2**31 - 1
BOUNDS: dict[str, tuple[float, float]] = {
    "dynamic_temperature.range": (0.0, 10.0),
    "dynamic_temperature.exponent": (0.0, 100.0),
    "xtc.probability": (0.0, 1.0),
    "xtc.threshold": (0.0, 1.0),
    "dry.multiplier": (0.0, 100.0),
    "dry.base": (1.0, 100.0),
    "dry.allowed_length": (1, MAX_LAST_N),
    "dry.penalty_last_n": (WHOLE_CONTEXT, MAX_LAST_N),
    "mirostat.tau": (0.0, 100.0),
    "mirostat.eta": (0.0, 1.0),
    "adaptive_p.target": (-1.0, 1.0),
    "adaptive_p.decay": (0.0, 0.99),
}
"""Of the numbers that steps take."""


class SamplerStep(enum.StrEnum):
    """A step that has a place in the order, by llama.cpp's names."""

    PENALTIES = "penalties"
    DRY = "dry"
    TEMPERATURE = "temperature"
    TOP_N_SIGMA = "top_n_sigma"
    TOP_K = "top_k"
    TYPICAL_P = "typical_p"
    TOP_P = "top_p"
    MIN_P = "min_p"
    XTC = "xtc"
    ADAPTIVE_P = "adaptive_p"


DEFAULT_ORDER = tuple(SamplerStep)
"""The order of steps where none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicTemperature:
    """The temperature follows the entropy of what may come (llama.cpp's `dynatemp`), from
    temperature - range to temperature + range."""

    range: float
    exponent: float = 1.0

    def check(self) -> None:
        """Raises InvalidParameter for values out of range, as all of these do."""
        _check("dynamic_temperature", range=self.range, exponent=self.exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Xtc:
    """Excludes top choices: with this probability, of the tokens at or above the threshold only
    the least likely stays."""

    probability: float
    threshold: float = 0.1

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        _check("xtc", probability=self.probability, threshold=self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """Makes it less likely, the longer the repetition, that what was said is said again.

    - penalty_last_n: tokens of prompt and output that are looked at; -1 is all, 0 is off.
    - sequence_breakers: texts that no repetition reaches across.
    """

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    penalty_last_n: int = WHOLE_CONTEXT
    sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        _check(
            "dry",
            multiplier=self.multiplier,
            base=self.base,
            allowed_length=self.allowed_length,
            penalty_last_n=self.penalty_last_n,
        )
        name = "dry.sequence_breakers"
        within("the number of sequence breakers", len(self.sequence_breakers), 0, MAX_BREAKERS,
               param=name)  # fmt: skip
        for text in self.sequence_breakers:
            within("a sequence breaker's length", len(text), 1, MAX_BREAKER_LENGTH, param=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirostat:
    """Holds the surprise of tokens at `tau` bits (version 2), in place of every other filter."""

    tau: float = 5.0
    eta: float = 0.1

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        _check("mirostat", tau=self.tau, eta=self.eta)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveP:
    """Prefers tokens whose probability is near a target that keeps the mean of what was chosen at
    `target`. A negative target is off."""

    target: float
    decay: float = 0.9

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        _check("adaptive_p", target=self.target, decay=self.decay)


def _check(step: str, **values: float) -> None:
    for name, value in values.items():
        within(f"{step}.{name}", value, *BOUNDS[f"{step}.{name}"])


def check_order(order: tuple[SamplerStep, ...] | None) -> None:
    """Refuse a step that has two places.

    Raises:
        InvalidParameter: naming it.
    """
    for place, step in enumerate(order or ()):
        if step in (order or ())[:place]:
            raise InvalidParameter(f"samplers has {step.value} twice", param="samplers")
