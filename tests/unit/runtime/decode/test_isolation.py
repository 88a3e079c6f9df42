"""Rows that fail: each alone, while those beside it do not notice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import Delta, Event, Failed, Finished, Started, is_terminal
from nsedge.runtime.decode.isolation import isolate
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.settings import PrefixReuse
from tests.unit.rig import VOCAB, Rig, RowModel, continuation

POISON = VOCAB - 1
"""No model of these tests says it, so that it is in prompts only."""
PROMPT = tuple(range(1, 13))
BAD = (*PROMPT, POISON, 5)


def said(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Delta) for token in event.token_ids]


def failure(events: list[Event]) -> Failed:
    assert [event for event in events if is_terminal(event)] == events[-1:]
    (last,) = events[-1:]
    assert isinstance(last, Failed), last
    return last


def never_poison(tokens: list[int]) -> int:
    return sum((place + 1) * token for place, token in enumerate(tokens)) % POISON


def rig_of(mixed: bool, **settings: int | float | PrefixReuse) -> Rig:
    rig = Rig(mixed=mixed, **settings)  # type: ignore[arg-type]
    rig.model.says = never_poison
    return rig


def answer(prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(never_poison(tokens))
    return tokens[len(prompt) :]


mixed_or_not = pytest.mark.parametrize("mixed", [False, True])


@mixed_or_not
@pytest.mark.parametrize("alone", [False, True])
def test_a_prompt_that_makes_a_step_raise_fails_alone(mixed: bool, alone: bool) -> None:
    rig = rig_of(mixed, slots=4)
    rig.model.raises = lambda tokens: POISON in tokens
    good = [] if alone else ["a", "b"]
    for name in good:
        rig.submit(name, PROMPT, 9, ignore_end=True)
    for _ in range(5):
        rig.step()
    rig.submit("bad", BAD, 9)
    rig.run()
    failed = failure(rig.events["bad"])
    assert (failed.code, failed.retryable) == ("computation_failure", False)
    assert "its step raises" in failed.message
    for name in good:
        assert said(rig.events[name]) == answer(PROMPT, 9)
    assert rig.model.recovered == 0
    assert len(rig.model.cleared) == 1
    rig.submit("next", PROMPT, 3, ignore_end=True)
    rig.run()
    assert said(rig.events["next"]) == answer(PROMPT, 3)


@mixed_or_not
@pytest.mark.parametrize("place", range(4))
def test_a_running_row_that_makes_a_step_raise_fails_alone(mixed: bool, place: int) -> None:
    rig = rig_of(mixed, slots=4)
    prompts = [(n + 1, 2, 3) for n in range(4)]
    spoilt = [*prompts[place], *answer(prompts[place], 5)]
    rig.model.raises = lambda tokens: tokens == spoilt
    for n, prompt in enumerate(prompts):
        rig.submit(f"r{n}", prompt, 9, ignore_end=True)
    rig.run()
    for n, prompt in enumerate(prompts):
        if n == place:
            assert failure(rig.events[f"r{n}"]).code == "computation_failure"
            assert said(rig.events[f"r{n}"]) == answer(prompt, 5)
        else:
            assert said(rig.events[f"r{n}"]) == answer(prompt, 9)
    assert rig.model.recovered == 0


@mixed_or_not
@pytest.mark.parametrize("logit", [math.nan, math.inf, 0.0])
def test_logits_that_are_no_numbers_fail_their_row_alone(mixed: bool, logit: float) -> None:
    rig = rig_of(mixed, slots=3)
    spoilt = [4, 2, 3, *answer((4, 2, 3), 4)]
    rig.model.logits_after = lambda tokens: logit if tokens == spoilt else 9.0
    for n in (3, 4, 5):
        rig.submit(f"r{n}", (n, 2, 3), 9, ignore_end=True)
    rig.run()
    failed = failure(rig.events["r4"])
    assert (failed.code, failed.retryable) == ("computation_failure", False)
    assert "no numbers" in failed.message
    assert said(rig.events["r4"]) == answer((4, 2, 3), 4)
    for n in (3, 5):
        assert said(rig.events[f"r{n}"]) == answer((n, 2, 3), 9)
    assert rig.model.runs < 40, "nothing is run again for it"


def test_what_a_failed_row_holds_is_found_by_nobody() -> None:
    rig = rig_of(True, prefix_reuse=PrefixReuse.FULL)
    rig.model.logits_after = lambda tokens: math.nan if tokens == [*PROMPT, *PROMPT] else 9.0
    rig.submit("bad", (*PROMPT, *PROMPT), 3)
    rig.run()
    assert failure(rig.events["bad"])
    rig.submit("next", (*PROMPT, 7, 8), 3, ignore_end=True)
    rig.run()
    last = rig.events["next"][-1]
    assert isinstance(last, Finished)
    assert last.usage.cached_tokens == 0


def test_a_run_that_raises_once_is_run_again_and_nobody_notices() -> None:
    rig = rig_of(False)
    rig.submit("a", PROMPT, 5, ignore_end=True)
    while not rig.ended:
        rig.model.fail_next = True
        rig.step()
    assert said(rig.events["a"]) == answer(PROMPT, 5)
    assert rig.model.recovered == 0


def test_a_guess_that_makes_a_check_raise_is_dropped() -> None:
    rig = Rig()
    prompt = (20, 21, 22, 23, POISON, 1, 20, 21, 22)
    # What was guessed to follow is never said, and cannot even be read after the first time.
    rig.model.says = lambda tokens: 23 if tokens[-1] == 22 else 30 + len(tokens) % 5
    rig.model.raises = lambda tokens: tokens[-1] == POISON and len(tokens) > 6
    rig.submit("a", prompt, 12, lookup=True)
    rig.run()
    assert isinstance(rig.events["a"][-1], Finished)
    assert said(rig.events["a"])[0] == 23
    assert len(said(rig.events["a"])) == 12


@mixed_or_not
def test_a_failed_prompt_was_never_started_or_is_told_so_once(mixed: bool) -> None:
    rig = rig_of(mixed, chunk_tokens=5)
    rig.model.raises = lambda tokens: POISON in tokens
    rig.submit("early", (POISON, 1, 2), 3)
    rig.submit("late", BAD, 3)
    rig.run()
    assert [type(event) for event in rig.events["early"]] == [Failed]
    assert [type(event) for event in rig.events["late"]] == [Started, Failed]


# The search by itself.


def plan_of(model: RowModel, prompts: list[tuple[int, ...]], decoding: int) -> StepPlan:
    """A step of as many decoding rows, the rest of the prompts being read."""
    rows, chunks = [], []
    for row, prompt in enumerate(prompts):
        sequence = Sequence(prompt_ids=prompt, limits=Limits(max_tokens=9), submitted_s=0.0)
        sequence.row, sequence.state = row, State.PREFILL
        chunk = Chunk(sequence, row, 0, len(prompt))
        if row < decoding:
            model.rows[row] = list(prompt)
            sequence.kv_length, sequence.state = len(prompt), State.RUNNING
            sequence.output_ids.append(7)
            rows.append(sequence)
        else:
            chunks.append(chunk)
    return StepPlan((), tuple(chunks), tuple(rows))


@settings(max_examples=100, deadline=None)
@given(
    bad=st.lists(st.booleans(), min_size=1, max_size=12),
    decoding=st.integers(0, 12),
)
def test_those_at_fault_are_found_in_few_runs(bad: list[bool], decoding: int) -> None:
    model = RowModel(len(bad), contiguous=False)
    prompts = [(n + 1, POISON if spoils else 2, 3) for n, spoils in enumerate(bad)]
    model.raises = lambda tokens: POISON in tokens and len(tokens) > 2
    plan = plan_of(model, prompts, min(decoding, len(bad)))
    found = isolate(plan, model.run)
    assert [one.held_row for one in found.errors] == [n for n, spoils in enumerate(bad) if spoils]
    assert [one.held_row for one in found.plan.sampled] == [
        n for n, spoils in enumerate(bad) if not spoils
    ]
    heard = [(*one.prompt_ids, *one.output_ids) for one in found.plan.sampled]
    said_after = [int(row.argmax()) for row in found.logits.array]
    assert said_after == [model.says(list(tokens)) for tokens in heard]
    assert model.runs <= 3 * len(bad)


def test_where_nothing_runs_any_more_nobody_is_at_fault() -> None:
    model = RowModel(16, contiguous=False)
    model.is_dead = True
    with pytest.raises(RuntimeError, match="the device is gone"):
        isolate(plan_of(model, [(n + 1, 2, 3) for n in range(16)], 8), model.run)
    assert model.runs <= 8, "it is noticed before every row was tried"


# Any failures, in any order.

requests = st.lists(
    st.tuples(
        st.integers(1, 3),  # what the prompt begins with: prefixes are shared
        st.integers(1, 14),  # its length
        st.integers(1, 8),  # max_tokens
        st.one_of(st.none(), st.integers(0, 20)),  # after how many tokens it fails
        st.sampled_from(["raises", "nan", "zeros"]),
        st.booleans(),  # whether its tokens are guessed
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(asked=requests, mixed=st.booleans(), hiccups=st.sets(st.integers(0, 60)))
def test_whoever_fails_all_others_say_what_they_say_alone(
    asked: list[tuple[int, int, int, int | None, str, bool]], mixed: bool, hiccups: set[int]
) -> None:
    rig = Rig(slots=3, chunk_tokens=4, mixed=mixed, prefix_reuse=PrefixReuse.FULL)
    prompts, spoilt = [], {}
    for n, (begin, length, max_tokens, fails_after, how, _) in enumerate(asked):
        # The last token is the request's own, so that nobody else's row is ever like this one's.
        prompts.append((*(begin + i % 2 for i in range(length)), 50 + n))
        whole = [*prompts[n], *continuation(prompts[n], max_tokens, ignore_end=True)]
        if fails_after is not None and length < fails_after <= len(whole) - 1:
            spoilt[tuple(whole[:fails_after])] = how
        elif fails_after is not None and how == "raises":
            spoilt[prompts[n]] = how
    rig.model.raises = lambda tokens: spoilt.get(tuple(tokens)) == "raises"
    rig.model.logits_after = lambda tokens: {"nan": math.nan, "zeros": 0.0}.get(
        spoilt.get(tuple(tokens), ""), 9.0
    )
    for n, (_, _, max_tokens, _, _, lookup) in enumerate(asked):
        rig.submit(f"r{n}", prompts[n], max_tokens, ignore_end=True, lookup=lookup)
    for step in range(1000):
        rig.model.fail_next = step in hiccups
        rig.step()
        if rig.scheduler.idle:
            break
    assert rig.scheduler.running == rig.scheduler.kv_tokens == 0
    for n, (_, _, max_tokens, *_) in enumerate(asked):
        events = rig.events[f"r{n}"]
        assert sum(is_terminal(event) for event in events) == 1
        whole = continuation(prompts[n], max_tokens, ignore_end=True)
        ends = [
            len(tokens) - len(prompts[n])
            for tokens in spoilt
            if tokens[: len(prompts[n])] == prompts[n]
        ]
        if ends and ends[0] < max_tokens:
            assert failure(events).code == "computation_failure"
            assert said(events) == whole[: ends[0]]
        else:
            assert isinstance(events[-1], Finished)
            assert said(events) == whole
    assert rig.model.recovered == 0
