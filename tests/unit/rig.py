"""A model of arithmetic in place of a graph: it keeps KV rows as lists and checks every access."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nsedge.api import Delta, Event, Priority, is_terminal
from nsedge.api.sampling import seed_of
from nsedge.runtime.decode.beams import ByBest, Ending
from nsedge.runtime.decode.conditioning import PromptMedia
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Family, Job
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.sampling.history import Breakers
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.searching import begin
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.decode.speculation import PromptLookup
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.structure.guide import Guide
from nsedge.runtime.text.answer.reader import AnswerReader
from nsedge.runtime.text.detokenizer import StopFinder, TextStream
from nsedge.runtime.text.tokens import TokenText
from tests.fakes import FakeClock

VOCAB = 97
END = 0
GREEDY = SamplingParams(temperature=0.0)


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


def said(events: list[Event]) -> list[int]:
    return [token for e in events if isinstance(e, Delta) for token in e.token_ids]


class RowModel:
    """Runs plans over rows of tokens; a wrong copy, row or length shows in the output."""

    def __init__(self, slots: int, *, contiguous: bool) -> None:
        self.contiguous = contiguous
        self.says: Callable[[list[int]], int] = next_token
        self.rows: list[list[int]] = [[] for _ in range(slots)]
        self.fail_next = False
        """Raise in the next run, once."""
        self.is_dead = False
        """Raise in every run, until it is opened anew."""
        self.raises: Callable[[list[int]], bool] = lambda tokens: False
        """After which tokens a run raises, whatever else it has to do."""
        self.logits_after: Callable[[list[int]], float] = lambda tokens: 9.0
        """The logit of what is said after which tokens."""
        self.spread: Callable[[list[int]], np.ndarray[Any, Any] | None] = lambda tokens: None
        """The logits of what is said after which tokens, where they are more than one's."""
        self.runs = 0
        self.cleared: list[int] = []
        self.recovered = 0
        self.chunks: list[int] = []
        self.copies: list[KvCopy | KvSwap] = []
        self.on_step: Callable[[StepPlan], None] = lambda plan: None
        self.on_recover: Callable[[], None] = lambda: None

    def run(self, plan: StepPlan) -> HostLogits:
        self.on_step(plan)
        self.runs += 1
        if self.fail_next or self.is_dead:
            self.fail_next = False
            raise RuntimeError("the device is gone")
        heard: list[list[int]] = []
        for sequence in plan.decode:
            tokens = (sequence.input_id, *plan.draft)
            heard += self._append(sequence.held_row, sequence.kv_length, tokens)
        for chunk in plan.prefill:
            self.chunks.append(len(chunk.ids))
            after = self._append(chunk.row, chunk.start, chunk.ids)
            heard += [after[place - chunk.start] for place in chunk.kept]
        logits = np.zeros((len(heard), VOCAB), np.float32)
        for row, tokens in enumerate(heard):
            if (spread := self.spread(tokens)) is not None:
                logits[row] = spread
            else:
                logits[row, self.says(tokens)] = self.logits_after(tokens)
        return HostLogits(logits)

    def _append(self, row: int, start: int, tokens: tuple[int, ...]) -> list[list[int]]:
        """What the row holds after each of the tokens; the run breaks off where it raises."""
        self.rows[row] = self.rows[row][:start]
        assert len(self.rows[row]) == start, "a row that does not hold what it should"
        held = []
        for token in tokens:
            self.rows[row].append(token)
            if self.raises(self.rows[row]):
                raise RuntimeError(f"nothing follows {token}")
            held.append(list(self.rows[row]))
        return held

    def clear(self, row: int, tokens: int) -> None:
        assert len(self.rows[row]) <= tokens
        self.cleared.append(row)
        self.rows[row] = []

    def recover(self) -> None:
        self.is_dead = False
        self.recovered += 1
        self.on_recover()
        self.rows = [[] for _ in self.rows]

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        for copy in copies:
            self._copy(copy)
            self.copies.append(copy)

    def _copy(self, copy: KvCopy | KvSwap) -> None:
        if isinstance(copy, KvCopy):
            kept, source = self.rows[copy.target][: copy.shared], self.rows[copy.source]
            assert kept == source[: copy.shared], "a row that does not share what it should"
            self.rows[copy.target] = kept + source[copy.shared : copy.tokens]
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


class LetterTexts:
    """The same characters, a token each."""

    def __getitem__(self, token_id: int) -> TokenText:
        return TokenText(chr(0x100 + token_id))


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
        media: PromptMedia | None = None,
        logprobs: int | None = None,
        row: SamplerRow | None = None,
        text: TextStream | None = None,
        answer: AnswerReader | None = None,
        prompt_logprobs: int | None = None,
        n: int = 1,
        params: SamplingParams = GREEDY,
        seed: int | None = None,
        guide: Guide | Many[Guide] | None = None,
        beams: int = 1,
        ending: Ending | None = None,
    ) -> Job:
        self.events[name] = []
        submitted_s = self.clock()

        def make(choice: int) -> Job:
            told = None if choice or prompt_logprobs is None else 0
            return Job(
                request_id=name,
                choice=choice,
                sequence=Sequence(
                    prompt_ids=prompt,
                    prompt_told=told,
                    limits=Limits(
                        max_tokens=max_tokens,
                        min_tokens=min_tokens,
                        end_ids=frozenset() if ignore_end else frozenset({END}),
                    ),
                    submitted_s=submitted_s,
                    priority=priority,
                    deadline_s=None if deadline_s is None else submitted_s + deadline_s,
                    lookup=PromptLookup(prompt) if lookup else None,
                    adapter=adapter,
                    media=media,
                ),
                row=row or SamplerRow(params, seed=seed_of(seed, choice), logprobs=logprobs),
                likelihood=LogprobWriter(LetterTexts()),
                prompt_logprobs=None if told is None else prompt_logprobs,
                text=text or TextStream(Letters(), StopFinder(stop)),
                answer=answer,
                guide=guide[choice] if isinstance(guide, Many) else guide,
                emit=lambda event: self._see(name, event),
            )

        job = make(0)
        if beams > 1:
            best = ending or ByBest(beams=beams, max_tokens=max_tokens)
            stops = Breakers(stop, lambda token: chr(0x100 + token).encode())
            again = make if n > 1 else None
            begin(job, best, beams=beams, count=n, make=again, stops=stops)
        elif n > 1:
            Family(job, count=n, make=make)
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
