"""Requests for vectors end in exactly one event, whatever becomes of the batches they are in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.api import (
    Failed,
    Finished,
    FinishReason,
    ModelTimes,
    Priority,
    Started,
    Vectors,
    is_terminal,
)
from nsedge.runtime.decode.timing import Times
from nsedge.runtime.encode.loop import BatchLimits
from nsedge.runtime.machine.arbiter import STRETCH, Rank
from tests.unit.runtime.encode.rig import WIDTH, Rig, vector_of


def gathered(rig: Rig, name: str) -> np.ndarray:
    parts = [event for event in rig.events[name] if isinstance(event, Vectors)]
    rows = [np.frombuffer(part.data, "<f4").reshape(part.shape) for part in parts]
    assert [part.first for part in parts] == list(np.cumsum([0, *map(len, rows[:-1])]))
    return np.concatenate(rows)


def test_a_request_gets_its_vectors_in_order() -> None:
    rig = Rig()
    inputs = [(1, 2, 3), (4,), (5, 6)]
    rig.ask("a", *inputs)
    for _ in inputs:
        rig.step()
    started, *_, finished = rig.events["a"]
    assert isinstance(started, Started)
    assert started.prompt_tokens == 6
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.STOP
    assert finished.usage.prompt_tokens == 6
    assert np.array_equal(gathered(rig, "a"), np.stack([vector_of(ids) for ids in inputs]))
    told = rig.loop.stats()
    assert (told.finished, told.texts, told.images) == ({"stop": 1}, 3, 0)


def test_times_have_the_buckets_of_models_that_write() -> None:
    """They are summed over models, bucket by bucket."""
    ours, theirs = Rig().loop.stats().times, Times().read()
    assert ours is not None
    for name in ModelTimes.__dataclass_fields__:
        assert getattr(ours, name).bounds_s == getattr(theirs, name).bounds_s, name


def test_requests_of_many_share_a_batch() -> None:
    rig = Rig()
    for name in "abcd":
        rig.ask(name, (1, 2, 3))
    rig.step()
    assert len(rig.runner.batches) == 1
    assert all(isinstance(rig.events[name][-1], Finished) for name in "abcd")


def test_fewer_dimensions_are_the_first_ones_at_length_one() -> None:
    rig = Rig()
    rig.ask("a", (3, 4), dimensions=2)
    rig.step()
    wanted = vector_of((3, 4))[:2]
    assert gathered(rig, "a")[0] == pytest.approx(wanted / np.linalg.norm(wanted))


def test_an_input_that_fails_fails_its_request_alone() -> None:
    rig = Rig(poison=13, nan=14)
    for name, token in (("a", 1), ("bad", 13), ("b", 2), ("none", 14), ("c", 3)):
        rig.ask(name, (token, 0))
    rig.step()
    for name in "abc":
        assert isinstance(rig.events[name][-1], Finished)
        assert np.array_equal(gathered(rig, name)[0], vector_of((" abc".index(name), 0)))
    for name in ("bad", "none"):
        (*_, failed) = rig.events[name]
        assert isinstance(failed, Failed)
        assert failed.code == "engine_failure"


def test_the_rest_of_a_failed_request_is_not_run() -> None:
    rig = Rig(poison=13)
    rig.ask("a", (13,), *[(1, 2, 3, 4, 5, 6, 7, 8)] * 20)
    rig.step()
    before = len(rig.runner.batches)
    rig.step()
    assert (len(rig.runner.batches), len(rig.events["a"])) == (before, 2)


def test_cancelling_ends_it_before_the_next_batch() -> None:
    rig = Rig()
    rig.ask("a", (1,), (2, 2, 2, 2, 2, 2))
    rig.step()
    rig.loop.cancel(rig.works["a"])
    rig.loop.cancel(rig.works["a"])
    rig.step()
    assert rig.events["a"][-1].reason is FinishReason.CANCELLED  # type: ignore[union-attr]
    assert rig.events["a"][-1].usage.prompt_tokens == 1  # type: ignore[union-attr]
    assert len(rig.runner.batches) == 1


def test_a_deadline_ends_what_waits() -> None:
    rig = Rig()
    rig.ask("a", (1,), (2, 2, 2, 2, 2, 2), deadline_s=1.0)
    rig.step()
    rig.clock.advance(1.5)
    rig.step()
    assert rig.events["a"][-1].code == "deadline_exceeded"  # type: ignore[union-attr]


def test_a_full_queue_refuses() -> None:
    rig = Rig(limits=BatchLimits(tokens=64, rows=8, waiting=3))
    rig.ask("a", (1,), (2,), (3,))
    rig.ask("b", (4,))
    rig.step()
    assert rig.events["b"][-1].code == "queue_full"  # type: ignore[union-attr]
    assert isinstance(rig.events["a"][-1], Finished)


def test_what_can_never_wait_is_refused_for_good() -> None:
    rig = Rig(limits=BatchLimits(tokens=64, rows=8, waiting=3))
    rig.ask("a", (1,), (2,), (3,), (4,))
    rig.step()
    end = rig.events["a"][-1]
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("invalid_parameter", False)
    assert "4 inputs" in end.message


def test_who_is_in_a_hurry_goes_first() -> None:
    rig = Rig(limits=BatchLimits(tokens=4, rows=1, waiting=100))
    rig.ask("slow", (1,), priority=Priority.BATCH)
    rig.ask("usual", (2,))
    rig.ask("quick", (3,), priority=Priority.INTERACTIVE)
    for _ in range(3):
        rig.step()
    assert rig.runner.batches == [[(3,)], [(2,)], [(1,)]]


def test_beside_streams_batches_are_as_short_as_a_token_may_wait() -> None:
    rig = Rig(limits=BatchLimits(tokens=4096, rows=64, waiting=1000))
    streams = rig.arbiter.seat(Rank.STREAMS)
    rig.loop._token_s = 0.001
    rig.arbiter.take(streams)
    rig.arbiter.give(streams, 0.040)
    rig.ask("a", *[(1,) * 10] * 30)
    rig.step()
    assert len(rig.runner.batches[0]) == int((STRETCH - 1) * 4)


@given(
    st.lists(
        st.tuples(
            st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), min_size=1, max_size=6),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_request_ends_once(requests: list[tuple[list[list[int]], bool]]) -> None:
    rig = Rig(poison=7, nan=8)
    for number, (inputs, cancelled) in enumerate(requests):
        rig.ask(str(number), *map(tuple, inputs))
        if cancelled:
            rig.step()
            rig.loop.cancel(rig.works[str(number)])
    for _ in range(60):
        rig.step()
    for number, (inputs, cancelled) in enumerate(requests):
        events = rig.events[str(number)]
        assert [is_terminal(event) for event in events].count(True) == 1
        assert is_terminal(events[-1])
        whole = not any({7, 8} & set(ids) for ids in inputs)
        if whole and not cancelled:
            assert gathered(rig, str(number)).shape == (len(inputs), WIDTH)
    assert (len(rig.loop._batcher), rig.loop.works) == (0, {})
