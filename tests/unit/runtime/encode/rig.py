"""Requests for vectors, and an encoder without a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Embed, Event, Priority, Request
from nsedge.runtime.encode.embed_work import EmbedWork
from nsedge.runtime.encode.loop import BatchLimits, EncodeLoop
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from tests.fakes import FakeClock

WIDTH = 4
LIMITS = BatchLimits(tokens=64, rows=8, waiting=100)


def vector_of(ids: Sequence[int]) -> NDArray[np.float32]:
    """The vector that the fake encoder makes of a text."""
    return np.array([sum(ids), len(ids), ids[0], 1.0], np.float32)


@dataclass
class FakeRunner:
    """Sums; fails on a batch with `poison` in it, and gives no numbers for `nan`."""

    poison: int = -1
    nan: int = -2
    batches: list[list[tuple[int, ...]]] = field(default_factory=list)

    def run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.batches.append([tuple(row) for row in rows])
        if any(self.poison in row for row in rows):
            raise RuntimeError("poisoned")
        vectors = np.stack([vector_of(row) for row in rows])
        for at, row in enumerate(rows):
            if self.nan in row:
                vectors[at] = np.nan
        return vectors


class Rig:
    """An encode loop that the test steps, and what each request was told."""

    def __init__(self, *, limits: BatchLimits = LIMITS, **runner: int) -> None:
        self.clock = FakeClock()
        self.runner = FakeRunner(**runner)
        self.arbiter = Arbiter(clock=self.clock)
        self.events: dict[str, list[Event]] = {}
        self.works: dict[str, EmbedWork] = {}
        self.loop = EncodeLoop(
            runner=self.runner,
            limits=limits,
            seat=self.arbiter.seat(Rank.OTHERS),
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=self.clock,
        )

    def ask(
        self,
        name: str,
        *inputs: tuple[int, ...],
        dimensions: int = WIDTH,
        priority: Priority = Priority.NORMAL,
        deadline_s: float | None = None,
    ) -> None:
        request = Request(
            request_id=name,
            model="m",
            task=Embed(inputs=inputs),
            priority=priority,
            deadline_s=deadline_s,
        )
        work = self.works[name] = EmbedWork(
            request=request,
            inputs=inputs,
            dimensions=dimensions,
            width=WIDTH,
            normalised=True,
            submitted_s=self.clock(),
        )
        self.loop.submit(work, self.events.setdefault(name, []).append)

    def step(self) -> None:
        self.loop.drain_inbox(wait=False)
        self.loop.step()
