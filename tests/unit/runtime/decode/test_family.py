"""Several choices of one prompt: read once, continued by rows of their own, in turn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import (
    ChoiceFailed,
    ChoiceFinished,
    Delta,
    Failed,
    Finished,
    FinishReason,
    Priority,
    PromptLogprobs,
    Started,
    is_terminal,
)
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.plan import KvCopy
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.text.detokenizer import Piece, StopFinder, TextStream
from tests.unit.rig import VOCAB, Letters, Rig

PROMPT = tuple(1 + n * 7 % (VOCAB - 1) for n in range(23))
RANDOM = SamplingParams(temperature=1.0)


def uncertain(rig: Rig) -> Rig:
    """What the model says is likely, and nothing more."""
    rig.model.logits_after = lambda tokens: 5.0
    return rig


def ids_of(rig: Rig, name: str, choice: int = 0) -> list[int]:
    deltas = [e for e in rig.events[name] if isinstance(e, Delta) and e.choice == choice]
    assert [delta.seq for delta in deltas] == list(range(len(deltas)))
    return [token for delta in deltas for token in delta.token_ids]


def ends_of(rig: Rig, name: str) -> dict[int, ChoiceFinished | ChoiceFailed]:
    """How each choice ended; nothing follows that."""
    ends: dict[int, ChoiceFinished | ChoiceFailed] = {}
    for event in rig.events[name]:
        if isinstance(event, Delta | ChoiceFinished | ChoiceFailed):
            assert event.choice not in ends
        if isinstance(event, ChoiceFinished | ChoiceFailed):
            ends[event.choice] = event
    assert [is_terminal(event) for event in rig.events[name]].count(True) == 1
    assert is_terminal(rig.events[name][-1])
    return ends


def alone(seed: int, max_tokens: int, prompt: tuple[int, ...] = PROMPT) -> list[int]:
    """What a request for one answer says with a seed."""
    rig = uncertain(Rig(slots=1))
    rig.submit("a", prompt, max_tokens, params=RANDOM, seed=seed)
    rig.run()
    return ids_of(rig, "a")


SHAPES = [
    (mixed, reuse, slots) for mixed in (False, True) for reuse in PrefixReuse for slots in (1, 3, 8)
]


@pytest.mark.parametrize(("mixed", "reuse", "slots"), SHAPES)
@pytest.mark.parametrize("max_tokens", [1, 2, 12])
def test_each_choice_is_what_its_seed_gives_alone_and_the_prompt_is_read_once(
    mixed: bool, reuse: PrefixReuse, slots: int, max_tokens: int
) -> None:
    rig = uncertain(Rig(slots=slots, mixed=mixed, prefix_reuse=reuse))
    rig.submit("a", PROMPT, max_tokens, n=7, params=RANDOM, seed=40)
    rig.run()
    for choice in range(7):
        assert ids_of(rig, "a", choice) == alone(40 + choice, max_tokens), choice
    assert sum(rig.model.chunks) == len(PROMPT)
    assert rig.engine.stats(slots=slots, capacity=99).prompt_tokens == len(PROMPT)
    ends = ends_of(rig, "a")
    assert sorted(ends) == list(range(7))
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert last.usage.prompt_tokens == len(PROMPT)
    written = [end.usage.completion_tokens for end in ends.values() if not failed(end)]
    assert last.usage.completion_tokens == sum(written)
    assert [type(event) for event in rig.events["a"]].count(Started) == 1


def failed(end: ChoiceFinished | ChoiceFailed) -> bool:
    return isinstance(end, ChoiceFailed)


def test_rows_are_shared_out_with_one_copy_each_and_taken_over_without() -> None:
    rig = uncertain(Rig(slots=4, mixed=True))
    rig.submit("a", PROMPT, 9, n=12, params=RANDOM, seed=1, ignore_end=True)
    rig.run()
    copies = [copy for copy in rig.model.copies if isinstance(copy, KvCopy)]
    assert [copy.tokens for copy in copies] == [len(PROMPT)] * 3
    assert rig.model.runs < 5 + 3 * 9 + 3


def test_of_128_choices_of_one_token_nobody_waits_for_a_step() -> None:
    rig = uncertain(Rig(slots=4, mixed=True))
    rig.submit("a", PROMPT, 1, n=128, params=RANDOM, seed=1)
    rig.run()
    assert len(ends_of(rig, "a")) == 128
    assert rig.model.runs == len(rig.model.chunks)
    said = {tuple(ids_of(rig, "a", choice)) for choice in range(128)}
    assert len(said) > 1


@pytest.mark.parametrize("mixed", [False, True])
def test_who_comes_meanwhile_waits_for_one_choice_and_not_for_all(mixed: bool) -> None:
    rig = uncertain(Rig(slots=2, mixed=mixed))
    rig.submit("a", PROMPT, 10, n=20, params=RANDOM, seed=1, ignore_end=True)
    for _ in range(8):
        rig.step()
    rig.submit("b", PROMPT[:5], 3, ignore_end=True)
    for _ in range(45):
        rig.step()
    assert rig.ended == ["b"]
    rig.run()
    assert rig.ended == ["b", "a"]
    for choice in range(20):
        assert ids_of(rig, "a", choice) == alone_on(40, choice)
    rig.scheduler.check()


def alone_on(seed: int, choice: int) -> list[int]:
    rig = uncertain(Rig(slots=1))
    rig.submit("a", PROMPT, 10, params=RANDOM, seed=1 + choice, ignore_end=True)
    rig.run()
    return ids_of(rig, "a")


def test_a_request_counts_once_among_those_that_wait() -> None:
    rig = Rig(slots=2, max_waiting=2)
    rig.submit("a", PROMPT, 30, n=50, ignore_end=True)
    for _ in range(12):
        rig.step()
    rig.submit("b", PROMPT[:5], 3)
    rig.step()
    assert rig.events["b"] == []
    rig.submit("c", PROMPT[:5], 3)
    rig.step()
    assert isinstance(rig.events["c"][-1], Failed)
    rig.run()
    assert rig.ended == ["c", "b", "a"]


@pytest.mark.parametrize("steps", [0, 2, 8, 15, 30])
def test_they_are_cancelled_together(steps: int) -> None:
    rig = uncertain(Rig(slots=3))
    job = rig.submit("a", PROMPT, 10, n=9, params=RANDOM, seed=1, ignore_end=True)
    for _ in range(steps):
        rig.step()
    rig.engine.cancel(job)
    rig.engine.cancel(job)
    rig.step()
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    written = sum(len(ids_of(rig, "a", choice)) for choice in range(9))
    assert last.usage.completion_tokens == written
    assert rig.scheduler.idle
    assert rig.ended == ["a"]
    rig.submit("b", PROMPT, 3)
    rig.run()
    assert rig.ended == ["a", "b"]


def test_they_miss_their_deadline_together() -> None:
    rig = uncertain(Rig(slots=2))
    rig.submit("a", PROMPT, 10, n=9, params=RANDOM, ignore_end=True, deadline_s=0.3)
    rig.run()
    last = rig.events["a"][-1]
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"
    assert rig.ended == ["a"]


def test_a_choice_that_cannot_be_computed_fails_alone() -> None:
    rig = uncertain(Rig(slots=3))
    wrong = alone_on(0, 2)[:4]
    rig.model.logits_after = lambda tokens: math.nan if tokens[len(PROMPT) :] == wrong else 5.0
    rig.submit("a", PROMPT, 10, n=6, params=RANDOM, seed=1, ignore_end=True)
    rig.run()
    ends = ends_of(rig, "a")
    assert [choice for choice in sorted(ends) if failed(ends[choice])] == [2]
    assert ids_of(rig, "a", 2) == wrong
    for choice in (0, 1, 3, 4, 5):
        assert ids_of(rig, "a", choice) == alone_on(0, choice)
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert last.usage.completion_tokens == 5 * 10 + 4


class Unreadable(TextStream):
    """A text that no token can be added to."""

    def push(self, token_id: int, *, may_stop: bool = True) -> Piece:
        raise ValueError("no text")


@pytest.mark.parametrize("mixed", [False, True])
def test_the_row_of_one_that_fails_at_once_has_been_copied_before(mixed: bool) -> None:
    """The first choice ends as another request does: the second takes its row, the third a copy of
    that, and the second fails before the copy was made by a step."""
    rig = uncertain(Rig(slots=2, mixed=mixed))
    rig.submit("x", (3,), 3 if mixed else 2, ignore_end=True)
    rig.step()
    job = rig.submit("a", (4, 5), 1, n=3, params=RANDOM, seed=1, ignore_end=True)
    assert job.family is not None
    make = job.family._make

    def make_unreadable(choice: int) -> Job:
        made = make(choice)
        if choice == 1:
            made.text = Unreadable(Letters(), StopFinder(()))
        else:
            object.__setattr__(made.sequence.limits, "max_tokens", 6)
        return made

    job.family._make = make_unreadable
    rig.run()
    ends = ends_of(rig, "a")
    assert [failed(ends[choice]) for choice in range(3)] == [False, True, False]
    lone = uncertain(Rig(slots=1))
    lone.submit("a", (4, 5), 6, params=RANDOM, seed=3, ignore_end=True)
    lone.run()
    assert ids_of(rig, "a", 2) == ids_of(lone, "a")
    assert rig.model.cleared


def test_where_every_choice_fails_the_request_does() -> None:
    rig = uncertain(Rig(slots=3))
    rig.model.logits_after = lambda tokens: math.nan if len(tokens) == len(PROMPT) + 2 else 5.0
    rig.submit("a", PROMPT, 10, n=6, params=RANDOM, seed=1, ignore_end=True)
    rig.run()
    assert all(map(failed, ends_of(rig, "a").values()))
    last = rig.events["a"][-1]
    assert isinstance(last, Failed)
    assert last.code == "computation_failure"


@pytest.mark.parametrize("told", [None, 0])
def test_a_prompt_that_cannot_be_read_fails_once_for_all(told: int | None) -> None:
    rig = Rig(slots=3)
    rig.model.logits_after = lambda tokens: math.nan if len(tokens) == len(PROMPT) else 5.0
    rig.submit("a", PROMPT, 10, n=6, prompt_logprobs=told)
    rig.submit("b", PROMPT[:4], 10)
    rig.run()
    assert [type(event) for event in rig.events["a"] if not isinstance(event, PromptLogprobs)] == [
        Started,
        Failed,
    ]
    assert isinstance(rig.events["b"][-1], Finished)


def test_a_model_that_is_gone_fails_all_of_a_request_once() -> None:
    rig = Rig(slots=3)
    rig.submit("a", PROMPT, 10, n=9, ignore_end=True)
    rig.submit("b", PROMPT[:4], 10)
    for _ in range(9):
        rig.step()
    rig.model.is_dead = True
    rig.step()
    assert sorted(rig.ended) == ["a", "b"]
    assert all(isinstance(rig.events[name][-1], Failed) for name in "ab")
    rig.submit("c", PROMPT, 3, n=2)
    rig.run()
    assert isinstance(rig.events["c"][-1], Finished)


def test_those_who_gave_way_go_on_where_they_were() -> None:
    rig = uncertain(Rig(slots=2))
    rig.submit(
        "a", PROMPT, 10, n=5, params=RANDOM, seed=1, ignore_end=True, priority=Priority.BATCH
    )
    for number in range(4):
        for _ in range(7):
            rig.step()
        for one in "xy":
            rig.submit(f"{one}{number}", PROMPT[:3], 2, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.scheduler.preemptions > 1
    for choice in range(5):
        assert ids_of(rig, "a", choice) == alone_on(0, choice)
    assert len(ends_of(rig, "a")) == 5


def test_the_prompt_is_told_once() -> None:
    rig = uncertain(Rig(slots=3))
    rig.submit("a", PROMPT, 4, n=5, params=RANDOM, logprobs=1, prompt_logprobs=1)
    rig.run()
    told = [e for e in rig.events["a"] if isinstance(e, PromptLogprobs)]
    assert sum(len(event.logprobs) for event in told) == len(PROMPT)
    for choice, end in ends_of(rig, "a").items():
        deltas = [e for e in rig.events["a"] if isinstance(e, Delta) and e.choice == choice]
        logprobs = [one.logprob or 0.0 for delta in deltas for one in delta.logprobs]
        assert isinstance(end, ChoiceFinished)
        if end.reason is FinishReason.LENGTH:
            assert end.cumulative_logprob == pytest.approx(sum(logprobs))


some_requests = st.lists(
    st.tuples(
        st.integers(1, 40),  # prompt tokens
        st.integers(1, 9),  # max_tokens
        st.integers(1, 6),  # choices
        st.sampled_from(list(Priority)),
        st.integers(0, 12),  # steps until the next comes
        st.booleans(),  # whether it is cancelled then
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=150, deadline=None)
@given(
    wanted=some_requests,
    slots=st.integers(1, 5),
    mixed=st.booleans(),
    reuse=st.sampled_from(list(PrefixReuse)),
)
def test_in_any_company_every_choice_is_as_alone(
    wanted: list[tuple[int, int, int, Priority, int, bool]],
    slots: int,
    mixed: bool,
    reuse: PrefixReuse,
) -> None:
    rig = uncertain(Rig(slots=slots, mixed=mixed, prefix_reuse=reuse, max_waiting=20))
    for number, (length, most, n, priority, steps, ends) in enumerate(wanted):
        prompt = tuple(1 + (number % 3 + place) % 40 for place in range(length))
        job = rig.submit(
            str(number), prompt, most, n=n, params=RANDOM, seed=number, priority=priority
        )
        for _ in range(steps):
            rig.step()
        if ends:
            rig.engine.cancel(job)
    rig.run()
    assert sorted(rig.ended) == sorted(map(str, range(len(wanted))))
    for number, (length, most, n, _, _, ends) in enumerate(wanted):
        prompt = tuple(1 + (number % 3 + place) % 40 for place in range(length))
        kinds = [type(event) for event in rig.events[str(number)]]
        assert kinds.count(Started) <= 1
        if n > 1 and not ends:
            assert sorted(ends_of(rig, str(number))) == list(range(n))
        for choice in range(n):
            found = ids_of(rig, str(number), choice)
            whole = alone(number + choice, most, prompt)
            assert found == whole or (ends and found == whole[: len(found)])
