"""The engine in any order of submissions, cancellations, steps and failures."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from nsedge.api import (
    Delta,
    Finished,
    FinishReason,
    Priority,
    Started,
    is_terminal,
)
from tests.unit.rig import END, VOCAB, Rig, continuation, said

fresh = st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=17)
shared = st.lists(st.integers(1, 2), min_size=1, max_size=17)
prompts = st.one_of(fresh, shared).map(tuple)


class EngineMachine(RuleBasedStateMachine):
    """Any order of submissions, cancellations and steps, over copies, holes and chunk borders."""

    jobs = Bundle("jobs")
    mixed = False

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(slots=3, max_waiting=6, chunk_tokens=4, burst_s=0.05, mixed=self.mixed)
        self.expected: dict[str, list[int]] = {}
        self.submitted_at: dict[str, int] = {}
        self.late_at_s: dict[str, float] = {}
        self.steps = 0

    @rule(
        target=jobs,
        prompt=prompts,
        max_tokens=st.integers(1, 12),
        ignore_end=st.booleans(),
        priority=st.sampled_from(Priority),
        deadline_s=st.one_of(st.none(), st.sampled_from([0.02, 0.1, 0.3])),
    )
    def submit(
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        ignore_end: bool,
        priority: Priority,
        deadline_s: float | None,
    ) -> object:
        name = f"r{len(self.expected)}"
        self.expected[name] = continuation(prompt, max_tokens, ignore_end=ignore_end)
        self.submitted_at[name] = self.steps
        if deadline_s is not None:
            self.late_at_s[name] = self.rig.clock() + deadline_s
        return self.rig.submit(
            name,
            prompt,
            max_tokens,
            ignore_end=ignore_end,
            priority=priority,
            deadline_s=deadline_s,
        )

    @rule(prompt=fresh, max_tokens=st.integers(1, 6), say=st.integers(0, 6))
    def go_on(self, prompt: list[int], max_tokens: int, say: int) -> None:
        """A conversation that grows: a prompt, what was said to it, and more."""
        grown = (*prompt, *continuation(tuple(prompt), say, ignore_end=True), 1, 2, 3)
        self.submit(tuple(prompt), max_tokens, True, Priority.BATCH, None)
        self.step(3)
        self.submit(grown, max_tokens, True, Priority.INTERACTIVE, None)

    @rule(job=jobs)
    def cancel(self, job: object) -> None:
        self.rig.engine.cancel(job)  # type: ignore[arg-type]

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.rig.step()
            self.steps += 1

    @rule()
    def fail_once(self) -> None:
        self.rig.model.fail_next = True

    @rule()
    def die(self) -> None:
        self.rig.model.is_dead = True

    @invariant()
    def one_terminal_event_at_most_and_last(self) -> None:
        for events in self.rig.events.values():
            assert not any(is_terminal(event) for event in events[:-1])

    @invariant()
    def output_is_what_the_sequence_alone_says(self) -> None:
        for name, events in self.rig.events.items():
            expected = self.expected[name]
            output = said(events)
            assert output == expected[: len(output)]
            if events and isinstance(events[-1], Finished):
                if events[-1].reason is FinishReason.STOP:
                    assert [*output, END] == expected
                elif events[-1].reason is FinishReason.LENGTH:
                    assert output == expected

    @invariant()
    def no_deadline_passes_unnoticed(self) -> None:
        for name, late_at_s in self.late_at_s.items():
            events = self.rig.events[name]
            if self.rig.clock() >= late_at_s and self.steps > self.submitted_at[name]:
                assert is_terminal(events[-1])

    @invariant()
    def every_token_is_told_once(self) -> None:
        for events in self.rig.events.values():
            assert sum(isinstance(event, Started) for event in events) <= 1
            deltas = [event.seq for event in events if isinstance(event, Delta)]
            assert deltas == list(range(len(deltas)))

    @invariant()
    def the_wait_is_bounded(self) -> None:
        # 9 sequences at most, each at most 7 chunks and 12 tokens, one after the other; a batch
        # one may be interrupted by each of the others, and must then read its output anew.
        for name, events in self.rig.events.items():
            if not (events and is_terminal(events[-1])):
                assert self.steps - self.submitted_at[name] <= 9 * (2 * 7 + 12) * 2

    def teardown(self) -> None:
        self.rig.model.fail_next = self.rig.model.is_dead = False
        self.rig.run()
        assert self.rig.scheduler.running == self.rig.scheduler.waiting == 0
        assert self.rig.scheduler.kv_tokens == 0
        for events in self.rig.events.values():
            assert is_terminal(events[-1])


EngineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

TestEngineMachine = EngineMachine.TestCase


class MixedEngineMachine(EngineMachine):
    """The same where a run takes rows and pieces of prompts alike."""

    mixed = True


MixedEngineMachine.TestCase.settings = EngineMachine.TestCase.settings

TestMixedEngineMachine = MixedEngineMachine.TestCase
