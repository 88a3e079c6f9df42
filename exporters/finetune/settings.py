"""What a training run is told, or what fits its examples, and what follows from that alone."""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import StrEnum

import msgspec


class Schedule(StrEnum):
    """How the learning rate goes on after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what training makes of a base and a dataset."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: tuple[str, ...] | None = None
    """Names of the layers to adapt; None: what suits the architecture; empty: none."""
    whole: tuple[str, ...] | None = None
    """Names of the modules to learn whole; None: of a base that sees, what brings the rows of its
    encoder to its decoder."""
    learning_rate: float = 2e-4
    schedule: Schedule = Schedule.COSINE
    warmup: float = 0.05
    """Share of all steps, or their number where it is 1 or more."""
    epochs: float = 3.0
    steps: int | None = None
    """Instead of `epochs`."""
    batch: int = 8
    """Examples that are computed together."""
    accumulate: int = 1
    """Batches a step."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """The longest gradient, by its 2-norm."""
    checkpointing: bool = False
    max_tokens: int = 1024
    evaluate: int | None = None
    """Steps between two measurements; None: eight in all."""
    patience: int = 3
    """Measurements without a better one after which training ends; 0: never."""
    seed: int = 0

    def total_steps(self, examples: int) -> int:
        """Steps in all, of a dataset of so many examples."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * self.steps_an_epoch(examples)))

    def steps_an_epoch(self, examples: int) -> int:
        """Steps that see every example once."""
        return math.ceil(math.ceil(examples / self.batch) / self.accumulate)

    def steps_between(self, total: int) -> int:
        """Steps between two measurements."""
        return self.evaluate or max(1, math.ceil(total / 8))


FITTED = ("epochs", "batch", "learning_rate")
"""Settings that follow from the number of examples where nobody names them."""
LEAST_STEPS = 60
LARGEST_BATCH = 8
SMALL_EPOCHS = 10
"""Times that a few examples are seen in so many steps; batches are chosen for that."""
USUAL_EPOCHS = 3.0
MANY_VIEWS = 30_000
"""Examples seen in all beyond which there are fewer epochs, down to one."""
SHORT_RUN, SHORT_RATE, USUAL_RATE = 200, 4e-4, 2e-4
"""A run of no more steps than the first has the second as its learning rate."""


def fitted(settings: Settings, examples: int, free: Collection[str] = FITTED) -> Settings:
    """`settings` with what is `free` chosen for so many examples.

    A few examples are seen often and in small batches, so that there are at least `LEAST_STEPS`
    steps; very many are seen once.
    """
    changes: dict[str, int | float] = {}
    if "batch" in free:
        batch = min(LARGEST_BATCH, SMALL_EPOCHS * examples // LEAST_STEPS)
        changes["batch"] = max(1, batch // settings.accumulate)
    chosen = msgspec.structs.replace(settings, **changes)
    if "epochs" in free and settings.steps is None:
        usual = max(1.0, min(USUAL_EPOCHS, MANY_VIEWS / examples))
        least = LEAST_STEPS / chosen.steps_an_epoch(examples)
        changes["epochs"] = max(usual, least)
        chosen = msgspec.structs.replace(settings, **changes)
    if "learning_rate" in free:
        is_short = chosen.total_steps(examples) <= SHORT_RUN
        changes["learning_rate"] = SHORT_RATE if is_short else USUAL_RATE
    return msgspec.structs.replace(settings, **changes)


def rate_at(settings: Settings, step: int, total: int) -> float:
    """The learning rate of `step`, which counts from 1 to `total`.

    It rises in a straight line, then follows half a cosine or a straight line towards 0 after the
    last step, or stays.
    """
    warmup = settings.warmup if settings.warmup >= 1 else settings.warmup * total
    if step <= warmup:
        return settings.learning_rate * step / max(1.0, warmup)
    done = (step - warmup) / max(1.0, total - warmup + 1)
    match settings.schedule:
        case Schedule.COSINE:
            share = 0.5 * (1 + math.cos(math.pi * done))
        case Schedule.LINEAR:
            share = 1 - done
        case Schedule.CONSTANT:
            share = 1.0
    return settings.learning_rate * share
