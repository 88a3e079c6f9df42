"""The order in which a row's steps come, and what it asks for at first."""

from __future__ import annotations

import functools
from collections.abc import Sequence as Many

import numpy as np

from nsedge.api import SamplerStep
from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.edits import Dry, Edit, Penalties
from nsedge.runtime.decode.sampling.filters import (
    WHOLE,
    ExcludeTop,
    MinP,
    Step,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.penalties import is_penalised
from nsedge.runtime.decode.sampling.steered import BoundSurprise, PreferNear
from nsedge.runtime.decode.sampling.temperature import Temperature
from nsedge.runtime.decode.sampling.view import Row

Order = tuple[SamplerStep, ...]


class Late(Step):
    """An edit of logits that comes behind a step over candidates: of those that are left."""

    def __init__(self, step: SamplerStep, edit: Edit) -> None:
        self._step = step
        self._edit = edit

    def needed(self, params: SamplingParams) -> bool:
        """Whether it would edit anything, and does not come early."""
        on = is_penalised(params) if self._step is SamplerStep.PENALTIES else params.dry is not None
        return on and self._step not in early_of(params.order)

    def width(self, params: SamplingParams) -> int:
        """What it edits may be the least likely."""
        return WHOLE

    def apply(self, best: Candidates, places: Many[int], rows: Many[Row]) -> None:
        """Edit what is left as if it stood in a vocabulary, and bring it into order again."""
        part = best.part(places)
        part.close()
        left = part.weights > 0
        part.fold()
        for place, row in enumerate(rows):
            own, ids = left[place], part.ids[place]
            vocabulary = np.full((1, part.logits.vocabulary), -np.inf, np.float32)
            vocabulary[0, ids[own]] = part.values[place, own]
            self._edit.apply(vocabulary, [0], [row])
            part.values[place, own] = vocabulary[0, ids[own]]
        part.sort()
        best.put(places, part, moved=True)


TEMPERATURE = Temperature()
STEPS: dict[SamplerStep, Step] = {
    SamplerStep.PENALTIES: Late(SamplerStep.PENALTIES, Penalties()),
    SamplerStep.DRY: Late(SamplerStep.DRY, Dry()),
    SamplerStep.TEMPERATURE: TEMPERATURE,
    SamplerStep.TOP_N_SIGMA: TopNSigma(),
    SamplerStep.TOP_K: TopK(),
    SamplerStep.TYPICAL_P: TypicalP(),
    SamplerStep.TOP_P: TopP(),
    SamplerStep.MIN_P: MinP(),
    SamplerStep.XTC: ExcludeTop(),
    SamplerStep.ADAPTIVE_P: PreferNear(),
}
"""By name; mirostat has no place in the order, being in the place of all filters."""
_EDITS = (SamplerStep.PENALTIES, SamplerStep.DRY)
WHOLE_ROWS: tuple[set[type[Step]], ...] = ({BoundSurprise}, {ExcludeTop})
"""Steps that are taken over a whole row (`sampling.whole`) where they are the only ones but for
temperature."""


class Chain:
    """The steps of an order, each of which a row may need or not."""

    def __init__(self, order: Order) -> None:
        self.early = early_of(order)
        """The edits that nothing stands before which they would change."""
        late = [step for step in order if step not in self.early]
        # Adaptive-p draws, and is the last wherever it stands.
        late.sort(key=lambda step: step is SamplerStep.ADAPTIVE_P)
        self.steps: tuple[Step, ...] = (*(STEPS[step] for step in late), BoundSurprise())
        """Those over candidates."""

    def needed(self, params: SamplingParams) -> tuple[bool, ...]:
        """Which of the steps a row needs."""
        return tuple(step.needed(params) for step in self.steps)

    def width(self, params: SamplingParams) -> int:
        """How many candidates to look at first; 0 where no step needs any, or the only one that
        does goes over the whole vocabulary sooner. It follows from a row's own parameters, so
        that its neighbours change nothing."""
        needed = [step for step in self.steps if step.needed(params)]
        if {type(step) for step in needed} - {Temperature} in WHOLE_ROWS:
            return 0
        widths = [step.width(params) for step in needed if not step.leaves_tail]
        return widths[0] if widths else max((step.width(params) for step in needed), default=0)

    def is_open(self, params: SamplingParams) -> bool:
        """Whether no step drops the least likely tokens."""
        return all(step.leaves_tail for step in self.steps if step.needed(params))

    def is_ordered(self, params: SamplingParams) -> bool:
        """Whether any step asks which token is likelier."""
        return any(step.needs_order for step in self.steps if step.needed(params))


@functools.lru_cache(maxsize=256)
def chain_of(order: Order) -> Chain:
    """The chain of an order, the same each time, so that rows can be told apart by it."""
    return Chain(order)


def early_of(order: Order) -> frozenset[SamplerStep]:
    """The edits of an order that nothing stands before which they would change."""
    early: list[SamplerStep] = []
    for step in order:
        if step not in _EDITS or any(_EDITS.index(step) < _EDITS.index(one) for one in early):
            break
        early.append(step)
    return frozenset(early)
