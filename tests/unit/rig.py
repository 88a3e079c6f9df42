"""A model of arithmetic in place of a graph: it keeps KV rows as lists and checks every access."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Event, Priority, is_terminal
from nsedge.runtime.decode.engine import Engine, Job
from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sampler import Sampler, SamplerRow, SamplingParams
from nsedge.runtime.decode.scheduler import Policy, Scheduler
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.decode.speculation import PromptLookup
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.text.detokenizer import StopFinder, TextStream
from tests.fakes import FakeClock

VOCAB = 97
END = 0


def next_token(tokens: list[int]) -> int:
    """What the model says after `tokens`: any of the vocabulary, a function of all of them."""
    return zlib.crc32(bytes(tokens)) % VOCAB


def continuation(
    prompt: tuple[int, ...], max_tokens: int, *, ignore_end: bool = False
) -> list[int]:
    """What a sequence alone would say, its end included."""
    tokens, said = list(prompt), []
    while len(said) < max_tokens:
        said.append(next_token(tokens))
        tokens.append(said[-1])
        if said[-1] == END and not ignore_end:
            break
    return said


class RowModel:
    """Runs plans over rows of tokens; a wrong copy, row or length shows in the output."""

    def __init__(self, slots: int, *, contiguous: bool) -> None:
        self.contiguous = contiguous
        self.says: Callable[[list[int]], int] = next_token
        self.rows: list[list[int]] = [[] for _ in range(slots)]
        self.fail_next = False
        self.recovered = 0
        self.chunks: list[int] = []
        self.copies: list[KvCopy | KvSwap] = []
        self.on_step: Callable[[StepPlan], None] = lambda plan: None
        self.on_recover: Callable[[], None] = lambda: None

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        self.on_step(plan)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the device is gone")
        for copy in plan.copies:
            self._copy(copy)
            self.copies.append(copy)
        said = []
        for index, sequence in enumerate(plan.decode):
            row = index if self.contiguous else sequence.held_row
            self.rows[row] = self.rows[row][: sequence.kv_length]
            for token in (sequence.input_id, *plan.draft):
                self.rows[row].append(token)
                said.append(self.says(self.rows[row]))
        for chunk in plan.prefill:
            self.chunks.append(len(chunk.ids))
            self.rows[chunk.row] = [*self.rows[chunk.row][: chunk.start], *chunk.ids]
            if chunk.is_last:
                said.append(self.says(self.rows[chunk.row]))
        logits = np.zeros((len(said), VOCAB), np.float32)
        logits[np.arange(len(said)), said] = 9.0
        return logits

    def recover(self) -> None:
        self.recovered += 1
        self.on_recover()
        self.rows = [[] for _ in self.rows]

    def _copy(self, copy: KvCopy | KvSwap) -> None:
        if isinstance(copy, KvCopy):
            self.rows[copy.target] = self.rows[copy.source][: copy.tokens]
            return
        first, second = self.rows[copy.first], self.rows[copy.second]
        self.rows[copy.first] = second[: copy.tokens]
        self.rows[copy.second] = first[: copy.tokens]


class Letters:
    """Decodes token i to one character."""

    def push(self, token_id: int) -> str:
        return chr(0x100 + token_id)

    def flush(self) -> str:
        return ""


@dataclass
class Rig:
    """An engine without its thread, and all that came of it."""

    slots: int = 4
    max_waiting: int = 8
    chunk_tokens: int = 5
    prefix_reuse: PrefixReuse = PrefixReuse.EXACT
    burst_s: float = 0.0
    step_s: float = 0.01
    mixed: bool = False
    clock: FakeClock = field(default_factory=FakeClock)
    events: dict[str, list[Event]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = RowModel(self.slots, contiguous=not self.mixed)
        self.scheduler = Scheduler(
            slots=Slots(count=self.slots, contiguous=not self.mixed),
            policy=Policy(
                max_waiting=self.max_waiting,
                chunk_tokens=self.chunk_tokens,
                prefix_reuse=self.prefix_reuse,
                prefix_block_tokens=4,
                burst_s=self.burst_s,
                mixed=self.mixed,
            ),
        )
        self.engine = Engine(
            runner=self.model,
            scheduler=self.scheduler,
            sampler=Sampler(end_ids=[END]),
            deliver=lambda batch: [emit(event) for emit, event in batch] and None,
            clock=self.clock,
        )

    def submit(
        self,
        name: str,
        prompt: tuple[int, ...],
        max_tokens: int,
        *,
        min_tokens: int = 0,
        stop: tuple[str, ...] = (),
        ignore_end: bool = False,
        priority: Priority = Priority.NORMAL,
        deadline_s: float | None = None,
        lookup: bool = False,
        adapter: str | None = None,
    ) -> Job:
        self.events[name] = []
        job = Job(
            request_id=name,
            sequence=Sequence(
                prompt_ids=prompt,
                limits=Limits(
                    max_tokens=max_tokens,
                    min_tokens=min_tokens,
                    end_ids=frozenset() if ignore_end else frozenset({END}),
                ),
                submitted_s=self.clock(),
                priority=priority,
                deadline_s=None if deadline_s is None else self.clock() + deadline_s,
                lookup=PromptLookup(prompt) if lookup else None,
                adapter=adapter,
            ),
            row=SamplerRow(SamplingParams(temperature=0.0)),
            text=TextStream(Letters(), StopFinder(stop)),
            emit=lambda event: self._see(name, event),
        )
        self.engine.submit(job)
        return job

    def _see(self, name: str, event: Event) -> None:
        self.events[name].append(event)
        if is_terminal(event):
            self.ended.append(name)

    def step(self) -> None:
        self.clock.advance(self.step_s)
        self.engine.drain_inbox(wait=False)
        self.engine.step()
        self.scheduler.check()

    def run(self, steps: int = 10_000) -> None:
        """Step until nothing is left to do."""
        for _ in range(steps):
            self.step()
            if self.scheduler.idle:
                return
        raise AssertionError(f"still busy after {steps} steps")
