"""How small models are trained: steps of some pictures each, at a rate that rises and falls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

WEIGHT_DECAY = 0.05
WARM_UP = 0.1
"""Share of the steps."""
TOLD_EVERY = 20

Loss = Callable[[NDArray[np.int64]], torch.Tensor]
"""Of the pictures of these numbers."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long a training is, and the share of colours, and of shapes, that it is to tell right."""

    steps: int
    batch: int = 64
    demanded: float


def fit(
    model: Any,
    course: Course,
    loss_of: Loss,
    *,
    pictures: int,
    rate: float,
    random: np.random.Generator,
    tell: Callable[[str], None],
) -> float:
    """Train `model` on some of so many `pictures` a step; the seconds it took."""
    began_s = time.monotonic()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    warm = max(1, int(WARM_UP * course.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda at: min((at + 1) / warm, (course.steps - at) / (course.steps - warm))
    )
    model.train()
    for step in range(course.steps):
        loss = loss_of(random.choice(pictures, course.batch, replace=False))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % TOLD_EVERY == 0:
            tell(f"step {step + 1} of {course.steps}: loss {loss.item():.3f}")
    model.eval()
    return time.monotonic() - began_s


def normalised(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """As the processors do that are written beside the models."""
    return (torch.from_numpy(pixels).float() / 255 - 0.5) / 0.5
