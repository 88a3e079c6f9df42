"""Which variants of a bundle are checked here, and why others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from nsedge import native
from nsedge.bundle.fields import AnyVariant

V = TypeVar("V", bound=AnyVariant)
C = TypeVar("C")


def examined(
    variants: Iterable[V], check: Callable[[V], C]
) -> tuple[tuple[C, ...], dict[str, str]]:
    """The findings of `check` on each variant that runs here; of the others, what they lack."""
    checks, skipped = [], {}
    for variant in variants:
        lacking = native.missing(variant.requires)
        if lacking is None:
            checks.append(check(variant))
        else:
            skipped[variant.name] = lacking
    return tuple(checks), skipped
