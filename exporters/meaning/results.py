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
