"""The step that makes a row's distribution flatter or steeper."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many

import numpy as np

from nsedge.api import DynamicTemperature
from nsedge.runtime.decode.sampling.candidates import Candidates, moments
from nsedge.runtime.decode.sampling.filters import Step
from nsedge.runtime.decode.sampling.logits import Floats, Logits, Reals
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.view import Row

COLDEST = 1e-6
"""What is colder is as cold as this, so that no quotient is beyond what numbers can be."""


class Temperature(Step):
    """Divides logits by the temperature.

    A dynamic one follows the entropy H of what may come, n tokens: it is the least one and, of the
    way to the greatest, (H / ln n) ** exponent (llama.cpp's pull request 4972; by kalomaze).
    """

    leaves_tail = True
    needs_order = False

    def needed(self, params: SamplingParams) -> bool:
        """Whether it divides by something else than 1."""
        return params.temperature != 1.0 or params.dynamic_temperature is not None

    def width(self, params: SamplingParams) -> int:
        """It drops nothing."""
        return 0

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Of what is left."""
        part = best.part(places)
        if any(row.params.dynamic_temperature is not None for row in rows):
            part.need_all()
        part.cool(np.array([self._left(part, place, row) for place, row in enumerate(rows)]))
        best.put(places, part)

    def first(self, logits: Logits, members: Many[int], rows: Many[Row]) -> Reals:
        """The temperatures [R] of rows of `logits` of which nothing was dropped."""
        return np.array(
            [
                max(COLDEST, row.params.temperature)
                if row.params.dynamic_temperature is None
                else self.of_row(logits.row(member), row.params)
                for member, row in zip(members, rows, strict=True)
            ]
        )

    def of_row(self, logits: Floats, params: SamplingParams) -> float:
        """The temperature of a row [V]."""
        dynamic = params.dynamic_temperature
        if dynamic is None:
            return max(COLDEST, params.temperature)
        total, mean_log = moments(logits - logits.max())
        entropy = math.log(total) - mean_log
        count = int(np.count_nonzero(np.isfinite(logits)))
        return _followed(params.temperature, dynamic, entropy, count)

    def _left(self, best: Candidates, place: int, row: Row) -> float:
        params, dynamic = row.params, row.params.dynamic_temperature
        if dynamic is None:
            return max(COLDEST, params.temperature)
        if best.outside[place]:
            return self.of_row(best.left(place), params)
        weights = best.weights[place][best.weights[place] > 0]
        shares = weights / weights.sum()
        entropy = -float((shares * np.log(shares)).sum())
        return _followed(params.temperature, dynamic, entropy, len(shares))


def _followed(middle: float, dynamic: DynamicTemperature, entropy: float, count: int) -> float:
    """The temperature for an entropy, in nats, of `count` tokens."""
    if count < 2:
        return max(COLDEST, middle)
    least, greatest = max(0.0, middle - dynamic.range), middle + dynamic.range
    way = math.pow(max(0.0, entropy / math.log(count)), dynamic.exponent)
    return max(COLDEST, least + (greatest - least) * way)
