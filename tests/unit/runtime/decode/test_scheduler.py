"""Policies over the model of arithmetic: prefix reuse, fairness, bursts, preemption, deadlines."""

from __future__ import annotations

import itertools

import pytest

from nsedge.api import Delta, Event, Failed, Finished, Priority, Started
from nsedge.runtime.decode.pace import FLOOR_TOKENS
from nsedge.runtime.decode.plan import KvCopy, KvSwap
from nsedge.runtime.decode.scheduler import BURST_GAP_S
from nsedge.runtime.settings import PrefixReuse
from tests.unit.rig import Rig, continuation

LONG = tuple(range(1, 41))


def said(events: list[Event]) -> list[int]:
    return [token for e in events if isinstance(e, Delta) for token in e.token_ids]


def cached(events: list[Event]) -> int:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last.usage.cached_tokens


def ask(rig: Rig, name: str, prompt: tuple[int, ...], max_tokens: int = 3) -> None:
    rig.submit(name, prompt, max_tokens, ignore_end=True)
    rig.run()
    assert said(rig.events[name]) == continuation(prompt, max_tokens, ignore_end=True)


# Prefix reuse, in blocks of four tokens.


def test_a_repeated_prompt_is_read_from_its_last_block_on() -> None:
    rig = Rig(chunk_tokens=50)
    ask(rig, "first", LONG)
    ask(rig, "again", LONG)
    assert rig.model.chunks == [40, 4]
    assert (cached(rig.events["first"]), cached(rig.events["again"])) == (0, 36)
    stats = rig.engine.stats(slots=4, capacity=64)
    assert (stats.prefix_query_tokens, stats.prefix_hit_tokens) == (80, 36)


def test_no_prefix_crosses_from_one_adapter_to_another() -> None:
    rig = Rig(chunk_tokens=50)
    for name, adapter in (("base", None), ("one", "1"), ("two", "2"), ("one again", "1")):
        rig.submit(name, LONG, 3, ignore_end=True, adapter=adapter)
        rig.run()
        assert cached(rig.events[name]) == (36 if name == "one again" else 0)


def test_a_growing_conversation_goes_on_in_its_row_from_the_output() -> None:
    rig = Rig(chunk_tokens=50, prefix_reuse=PrefixReuse.FULL)
    ask(rig, "first", LONG, 10)
    answer = continuation(LONG, 10, ignore_end=True)
    ask(rig, "second", (*LONG, *answer, 7, 8, 9))
    assert cached(rig.events["second"]) == 48  # 49 tokens were there: the tenth was never read
    assert rig.model.copies == []


def test_output_is_read_anew_where_nothing_may_be_rounded_another_way() -> None:
    rig = Rig(chunk_tokens=50)
    ask(rig, "first", LONG, 10)
    answer = continuation(LONG, 10, ignore_end=True)
    ask(rig, "second", (*LONG, *answer, 7, 8, 9))
    assert cached(rig.events["second"]) == 40


def test_no_token_of_a_prompt_is_read_by_itself() -> None:
    rig = Rig(chunk_tokens=5)
    for length in range(2, 20):
        ask(rig, f"{length} tokens", (length, *range(1, length)))
    assert min(rig.model.chunks) == 2


def test_two_conversations_share_a_beginning_and_both_stay() -> None:
    rig = Rig(chunk_tokens=50)
    ask(rig, "one", (*LONG, *range(50, 60)))
    ask(rig, "other", (*LONG, *range(60, 70)))
    assert cached(rig.events["other"]) == 40
    assert [type(copy) for copy in rig.model.copies] == [KvCopy, KvSwap]
    for name, tail in (("one again", range(50, 60)), ("other again", range(60, 70))):
        ask(rig, name, (*LONG, *tail, 1))
        assert cached(rig.events[name]) >= 48


def test_a_prefix_is_taken_from_a_row_that_still_runs() -> None:
    rig = Rig(chunk_tokens=50)
    rig.submit("running", LONG, 30, ignore_end=True)
    for _ in range(3):
        rig.step()
    rig.submit("like it", (*LONG, 1, 2), 3, ignore_end=True)
    rig.run()
    assert cached(rig.events["like it"]) == 40
    assert said(rig.events["running"]) == continuation(LONG, 30, ignore_end=True)
    assert said(rig.events["like it"]) == continuation((*LONG, 1, 2), 3, ignore_end=True)


def test_the_row_that_was_longest_unused_is_given_up() -> None:
    rig = Rig(slots=2, chunk_tokens=50)
    first, second, third = ((n, *LONG, 5) for n in (1, 2, 3))
    ask(rig, "first", first)
    ask(rig, "second", second)
    ask(rig, "third", third)
    ask(rig, "second again", second)
    assert cached(rig.events["second again"]) == 40
    ask(rig, "first again", first)
    assert cached(rig.events["first again"]) == 0


def test_turned_off_nothing_is_reused_or_looked_up() -> None:
    rig = Rig(chunk_tokens=50, prefix_reuse=PrefixReuse.OFF)
    ask(rig, "first", LONG)
    ask(rig, "again", LONG)
    assert rig.model.chunks == [40, 40]
    assert rig.engine.stats(slots=4, capacity=64).prefix_query_tokens == 0


def test_after_a_failed_step_no_row_is_trusted() -> None:
    rig = Rig(chunk_tokens=50)
    ask(rig, "first", LONG)
    rig.submit("broken", (5,), 3)
    rig.model.is_dead = True
    rig.run()
    ask(rig, "again", LONG)
    assert cached(rig.events["again"]) == 0


# Bursts, and prompts beside running streams.


def test_prompts_that_come_together_are_all_read_before_the_first_goes_on() -> None:
    rig = Rig(chunk_tokens=50, burst_s=1.0)
    for n in range(4):
        rig.submit(f"r{n}", (n + 1, *LONG), 5, ignore_end=True)
    for _ in range(4):
        rig.step()
    assert [len(said(rig.events[f"r{n}"])) for n in range(4)] == [1, 1, 1, 1]
    rig.step()
    assert [len(said(rig.events[f"r{n}"])) for n in range(4)] == [2, 2, 2, 2]


def test_in_a_burst_streams_get_a_token_now_and_then() -> None:
    rig = Rig(chunk_tokens=4, burst_s=60.0)
    rig.submit("first", (1, 2, 3), 50, ignore_end=True)
    rig.submit("second", tuple(range(90)) * 2, 2, ignore_end=True)
    told_at_s = []
    while not said(rig.events["second"]):
        before = len(said(rig.events["first"]))
        rig.step()
        told_at_s += [rig.clock()] * (len(said(rig.events["first"])) - before)
    gaps = [late - early for early, late in itertools.pairwise(told_at_s)]
    assert len(gaps) == 2
    assert gaps == pytest.approx([BURST_GAP_S] * 2, abs=0.011)


def test_a_burst_is_over_after_its_time() -> None:
    rig = Rig(chunk_tokens=8, burst_s=0.05)
    rig.submit("first", (1, 2, 3), 30, ignore_end=True)
    rig.submit("second", tuple(range(90)), 3, ignore_end=True)
    for _ in range(12):
        rig.step()
    assert len(said(rig.events["first"])) > 2
    assert said(rig.events["second"]) == []


def test_running_streams_get_a_token_between_any_two_pieces_of_a_prompt() -> None:
    rig = Rig(chunk_tokens=50, burst_s=1.0)
    rig.submit("running", (3,), 50, ignore_end=True)
    for _ in range(3):
        rig.step()
    rig.submit("long", (*LONG, *LONG), 2, ignore_end=True)
    seen = []
    while not said(rig.events["long"]):
        rig.step()
        seen.append(len(said(rig.events["running"])))
    assert len(seen) == 2 * len(rig.model.chunks[1:]) - 1
    assert sorted(set(seen)) == list(range(seen[0], seen[-1] + 1))
    assert rig.model.chunks[1] == FLOOR_TOKENS  # a prompt token costs as much as a step so far


def test_a_short_prompt_overtakes_a_long_one_that_is_being_read() -> None:
    rig = Rig(chunk_tokens=4)
    rig.submit("long", LONG, 2, ignore_end=True)
    rig.step()
    rig.submit("short", (3,), 2, ignore_end=True)
    rig.step()
    assert said(rig.events["short"]) == continuation((3,), 1, ignore_end=True)
    rig.run()
    assert said(rig.events["long"]) == continuation(LONG, 2, ignore_end=True)


# Priorities.


def test_an_interactive_request_takes_the_slot_of_a_batch_one_which_goes_on_later() -> None:
    rig = Rig(slots=1, chunk_tokens=50)
    rig.submit("batch", LONG, 20, ignore_end=True, priority=Priority.BATCH)
    for _ in range(8):
        rig.step()
    before = said(rig.events["batch"])
    assert 0 < len(before) < 20
    rig.submit("now", (3, 4), 4, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.step()
    assert said(rig.events["now"]) == continuation((3, 4), 1, ignore_end=True)
    rig.run()
    assert said(rig.events["batch"]) == continuation(LONG, 20, ignore_end=True)
    assert [type(e) for e in rig.events["batch"]].count(Started) == 1
    last = rig.events["batch"][-1]
    assert isinstance(last, Finished)
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (len(LONG), 20)
    assert rig.engine.stats(slots=1, capacity=64).preemptions == 1


def test_an_interrupted_sequence_finds_its_row_again_where_it_survived() -> None:
    rig = Rig(slots=2, chunk_tokens=50, burst_s=1.0)
    rig.submit("old", (1, *LONG, 5), 60, ignore_end=True, priority=Priority.BATCH)
    rig.submit("young", (2, *LONG, 5), 60, ignore_end=True, priority=Priority.BATCH)
    for _ in range(10):
        rig.step()
    rig.submit("now", (2, *LONG, 5), 2, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.run()
    assert cached(rig.events["now"]) == 40
    assert rig.model.chunks[2] == 2  # "now" went on in the row that "young" had to leave
    for name, first in (("old", 1), ("young", 2)):
        assert said(rig.events[name]) == continuation((first, *LONG, 5), 60, ignore_end=True)


@pytest.mark.parametrize(
    ("at_work", "asking"),
    [
        (Priority.NORMAL, Priority.INTERACTIVE),
        (Priority.BATCH, Priority.NORMAL),
        (Priority.BATCH, Priority.BATCH),
    ],
)
def test_nobody_else_is_interrupted(at_work: Priority, asking: Priority) -> None:
    rig = Rig(slots=1, chunk_tokens=50)
    rig.submit("at work", LONG, 20, ignore_end=True, priority=at_work)
    rig.step()
    rig.submit("asking", (3,), 4, ignore_end=True, priority=asking)
    rig.run()
    assert rig.engine.stats(slots=1, capacity=64).preemptions == 0
    assert rig.ended == ["at work", "asking"]


def test_a_batch_request_that_is_old_enough_is_not_interrupted() -> None:
    rig = Rig(slots=1, chunk_tokens=50)
    rig.submit("batch", LONG, 20, ignore_end=True, priority=Priority.BATCH)
    rig.step()
    rig.clock.advance(61.0)
    rig.submit("now", (3,), 4, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.ended == ["batch", "now"]


def test_under_a_stream_of_interactive_requests_a_batch_one_still_ends() -> None:
    rig = Rig(slots=1, chunk_tokens=50)
    rig.submit("batch", LONG, 30, ignore_end=True, priority=Priority.BATCH)
    for n in range(1000):
        if n % 10 == 0:
            rig.submit(f"r{n}", (n % 90 + 1,), 8, ignore_end=True, priority=Priority.INTERACTIVE)
        rig.clock.advance(0.1)
        rig.step()
        if rig.events["batch"] and isinstance(rig.events["batch"][-1], Finished):
            break
    assert said(rig.events["batch"]) == continuation(LONG, 30, ignore_end=True)


# Deadlines.


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_a_deadline_ends_a_request_wherever_it_stands(steps: int) -> None:
    """Waiting (its turn never comes), being read, or being written."""
    rig = Rig(slots=1, chunk_tokens=4)
    if steps == 1:
        rig.submit("before", (7,), 90, ignore_end=True)
        rig.step()
    rig.submit("a", LONG, 90, ignore_end=True, deadline_s=steps * 0.01 + 0.005)
    for _ in range(steps + 1):
        rig.step()
    last = rig.events["a"][-1]
    assert isinstance(last, Failed)
    assert (last.code, last.retryable, last.param) == ("deadline_exceeded", True, "deadline_s")
    output = said(rig.events["a"])
    assert output == continuation(LONG, 90, ignore_end=True)[: len(output)]
    assert rig.scheduler.running == (steps == 1)
    rig.run()


def test_a_deadline_that_is_kept_does_nothing() -> None:
    rig = Rig()
    rig.submit("a", LONG, 3, ignore_end=True, deadline_s=10.0)
    rig.run()
    rig.clock.advance(20.0)
    rig.step()
    assert isinstance(rig.events["a"][-1], Finished)
    assert rig.engine.stats(slots=4, capacity=64).finished == {"length": 1}
