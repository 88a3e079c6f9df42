"""A step that raises is run again in parts, until it is known whose tokens make it raise.

A run may be repeated: it appends to the cache in the same places, and what it computes of a row
does not depend on the rows beside it. So halves of a step that raises are run, and halves of those,
down to single rows and pieces of prompts. A row that raises alone is at fault where something else
runs after it; where nothing does any more, the model cannot go on, and nobody is at fault.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace

import numpy as np

from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sampling.logits import Floats, HostLogits, Logits
from nsedge.runtime.decode.sequence import Limits, Sequence

PROBE_IDS = (0, 0)
"""A prompt that every model has read while it was warmed up."""

Run = Callable[[StepPlan], Logits]


@dataclass(slots=True)
class Isolated:
    """What is left of a step: those that can be computed, their logits, and why others cannot."""

    plan: StepPlan
    logits: HostLogits
    errors: dict[Sequence, Exception]


def isolate(plan: StepPlan, run: Run) -> Isolated:
    """Run `plan`, which raised, in parts; its copies are made already.

    Makes at most three runs for each of its rows and pieces.

    Raises:
        Exception: what `run` raises where it cannot even read a prompt of zeros.
    """
    search = _Search(run)
    search.divide(list(_parts(plan)))
    search.settle()
    kept = [part for part, _ in search.kept]
    left = replace(
        _joined(kept),
        started=tuple(one for one in plan.started if one not in search.errors),
    )
    rows = [row for _, logits in search.kept for row in logits]
    logits = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    return Isolated(left, HostLogits(logits), search.errors)


@dataclass(slots=True)
class _Search:
    """Which parts run, in order, and which raise by themselves."""

    run: Run
    kept: list[tuple[StepPlan, list[Floats]]] = field(default_factory=list)
    errors: dict[Sequence, Exception] = field(default_factory=dict)
    doubted: StepPlan | None = None
    """A part that raised by itself, and nothing has run since."""

    def divide(self, parts: Many[StepPlan]) -> None:
        """Look through parts that raise together, or did."""
        middle = (len(parts) + 1) // 2
        for half in (parts[:middle], parts[middle:]):
            if half:
                self.look(half)

    def look(self, parts: Many[StepPlan]) -> None:
        """Run parts together, and apart where that raises."""
        whole = _joined(parts)
        try:
            logits = self.run(whole)
        except Exception as error:  # whatever a runner raises
            if len(parts) > 1:
                self.divide(parts)
            elif whole.draft:
                self.look([replace(whole, draft=())])  # a guess may be what raises
            else:
                self.condemn(whole, error)
        else:
            self.doubted = None
            self.kept.append((whole, [logits.row(i).copy() for i in range(len(logits))]))

    def condemn(self, part: StepPlan, error: Exception) -> None:
        """A part raised by itself: it is at fault, unless nothing runs any more."""
        self.settle()
        self.errors[_owner(part)] = error
        self.doubted = part

    def settle(self) -> None:
        """See whether anything still runs: two zeros, where the doubted part is."""
        if self.doubted is not None:
            owner = _owner(self.doubted)
            zeros = Sequence(
                prompt_ids=PROBE_IDS,
                limits=Limits(max_tokens=1),
                submitted_s=0.0,
                adapter=owner.adapter,
                memory=owner.memory,
            )
            chunk = Chunk(zeros, owner.held_row, 0, len(PROBE_IDS))
            self.run(StepPlan((), (chunk,), ()))
            self.doubted = None


def _parts(plan: StepPlan) -> itertools.chain[StepPlan]:
    """A plan for each row and each piece, in the order of their logits."""
    return itertools.chain(
        (StepPlan((), (), (sequence,), draft=plan.draft) for sequence in plan.decode),
        (StepPlan((), (chunk,), ()) for chunk in plan.prefill),
    )


def _joined(parts: Many[StepPlan]) -> StepPlan:
    """One plan of several; a draft is of a step that has no other row."""
    return StepPlan(
        copies=(),
        prefill=tuple(chunk for part in parts for chunk in part.prefill),
        decode=tuple(sequence for part in parts for sequence in part.decode),
        draft=next((part.draft for part in parts), ()),
    )


def _owner(part: StepPlan) -> Sequence:
    return part.decode[0] if part.decode else part.prefill[0].sequence
