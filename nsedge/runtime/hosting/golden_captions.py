"""A captioner's golden pictures, looked at as requests' are: what fp32 wrote must be likely."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.caption import CaptionVariant, GoldenCaption
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.hosting.golden import Agreement, hold, logits_before
from nsedge.runtime.vision.levels import pattern

Look = Callable[[NDArray[np.uint8]], None]
"""Writes what is to be seen in a picture, uint8 [3, H, W], to the first row of the memory."""


def check(
    golden: Iterable[GoldenCaption],
    *,
    size: tuple[int, int],
    look: Look,
    runner: StepRunner,
    variant: CaptionVariant,
) -> Agreement:
    """Have each pattern, of that height and width, looked at, and its caption read as if it were
    being written.

    Raises:
        BundleInvalid: too few of its tokens are the likeliest.
    """
    hits: list[bool] = []
    for sample in golden:
        look(pattern(sample.pattern, *size))
        rows = logits_before(runner, sample.prompt_ids, sample.continuation_ids)
        hits += (rows.argmax(axis=1) == np.array(sample.continuation_ids)).tolist()
    found = Agreement(tokens=len(hits), agreed=sum(hits))
    judge(found, variant)
    return found


def judge(found: Agreement, variant: CaptionVariant) -> None:
    """Hold what was found of `variant` to what was recorded of it.

    Raises:
        BundleInvalid: too few tokens agree.
    """
    recorded = 1.0 if variant.seen is None else variant.seen.top1
    hold(found, recorded, variant=variant.name, does="write its golden captions")
