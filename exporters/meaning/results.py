"""What was found of small models, as bench/results/meaning.json has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.meaning.easy_vqa import WHEEL
from exporters.meaning.fitting import Course


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Of how many pictures something was told, and the share that was right."""

    pictures: int
    right: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant told of pictures that were not trained on, and of which it is known."""

    variant: str
    colour: Share
    shape: Share


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found of a model. train_s: seconds of training; None where it was kept from
    before."""

    steps: int
    batch: int
    train_s: float | None
    demanded: float
    found: tuple[Found, ...]

    @property
    def passed(self) -> bool:
        """Every variant tells colours and shapes as demanded."""
        least = [min(one.colour.right, one.shape.right) for one in self.found]
        return min(least) >= self.demanded

    @property
    def wanted(self) -> str:
        """What is to be reached, in words."""
        return f"{self.demanded:.0%} of colours and of shapes, at least"


NEAR = 0.01
"""How far int8 may be from fp32, as a share of the questions."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The share of the questions that a variant answered right."""

    variant: str
    right: float


class MeasuredAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found of a model that answers questions about pictures.

    - words_steps, steps, batch: of its decoder on words, and of fine-tuning.
    - train_cpu_s: seconds of processor time of both; None where they were kept from before. The
      eyes are the small CLIP's, and are not counted.
    - questions: asked of each variant. usual: the share that the most usual answer gets. blind: the
      share that the most usual answer to each question gets, of those that are learnt from.
    - before: the share that the base answers right, whose projector has learnt nothing.
    """

    words_steps: int
    steps: int
    batch: int
    train_cpu_s: float | None
    demanded: float
    questions: int
    usual: float
    blind: float
    before: float
    found: tuple[Answered, ...]

    @property
    def passed(self) -> bool:
        """Every variant answers as demanded, and nearly as fp32 does."""
        shares = {one.variant: one.right for one in self.found}
        exact = shares["cpu-fp32"]
        return all(
            share >= self.demanded and round(abs(share - exact), 4) <= NEAR
            for share in shares.values()
        )

    @property
    def wanted(self) -> str:
        """What is to be reached, in words."""
        return f"{self.demanded:.0%} of the questions, and {NEAR:.0%} off fp32 at most"


def trained(cache: Cache, course: Course, module: str, *, title: str, make: Any) -> Path:
    """The folder of the model that `make` trains, from the cache where it is there; `module` does
    the work."""
    inputs = {
        "pictures": WHEEL.sha256,
        "steps": course.steps,
        "batch": course.batch,
        "code": code_digest(module),
    }
    return cache.get("meaning", inputs, title=title, make=make)
