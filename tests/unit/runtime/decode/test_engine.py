"""The engine over a model of arithmetic: every output is known beforehand."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from nsedge.api import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Started,
    is_terminal,
)
from nsedge.errors import BundleInvalid
from tests.unit.rig import END, VOCAB, Rig, continuation, said

PROMPT = tuple(range(1, 13))


def text(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


def finished(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last


def _failed(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Failed)


@pytest.mark.parametrize("asked", [{}, {"n": 3}, {"beams": 3}, {"beams": 3, "n": 2}])
@pytest.mark.parametrize("cancelled", [False, True])
def test_an_engine_is_gone_with_its_last_reference(asked: dict[str, int], cancelled: bool) -> None:
    """What it holds is measured as another model's where it goes later."""
    rig = Rig()
    rig.submit("a", PROMPT, 3, ignore_end=True, **asked)  # type: ignore[arg-type]
    if not cancelled:
        rig.run()
    rig.engine.start()
    rig.engine.stop()
    assert rig.ended == ["a"]
    gc.disable()
    try:
        engine = weakref.ref(rig.engine)
        del rig.engine
        assert engine() is None
    finally:
        gc.enable()


def test_a_request_starts_streams_and_finishes() -> None:
    rig = Rig()
    rig.submit("a", PROMPT, 7, ignore_end=True)
    rig.run()
    events = rig.events["a"]
    assert isinstance(events[0], Started)
    assert events[0].prompt_tokens == len(PROMPT)
    assert said(events) == continuation(PROMPT, 7, ignore_end=True)
    assert [e.seq for e in events if isinstance(e, Delta)] == list(range(7))
    last = finished(events)
    assert last.reason is FinishReason.LENGTH
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (len(PROMPT), 7)
    assert last.timings.prefill_s == pytest.approx(0.02)
    assert last.timings.decode_s == pytest.approx(0.06)


def test_the_end_of_sequence_ends_it_and_has_no_text() -> None:
    prompt = next((i, 5) for i in range(1, VOCAB) if END in continuation((i, 5), 60))
    expected = continuation(prompt, 60)
    rig = Rig()
    rig.submit("a", prompt, 60)
    rig.run()
    assert said(rig.events["a"]) == expected[:-1]
    last = finished(rig.events["a"])
    assert last.reason is FinishReason.STOP
    assert last.usage.completion_tokens == len(expected)


def test_min_tokens_bans_the_end() -> None:
    prompt = next((i, 5) for i in range(1, VOCAB) if len(continuation((i, 5), 20)) < 4)
    rig = Rig()
    rig.submit("a", prompt, 20, min_tokens=10)
    rig.run()
    assert finished(rig.events["a"]).usage.completion_tokens >= 10
    assert END not in said(rig.events["a"])


def test_a_stop_string_ends_the_text_before_it() -> None:
    letters = [chr(0x100 + token) for token in continuation(PROMPT, 12, ignore_end=True)]
    stop = "".join(letters[4:6])
    rig = Rig()
    rig.submit("a", PROMPT, 12, stop=(stop,), ignore_end=True)
    rig.run()
    assert text(rig.events["a"]) == "".join(letters[:4])
    last = finished(rig.events["a"])
    assert (last.reason, last.stop) == (FinishReason.STOP, stop)
    assert last.usage.completion_tokens == 6


def test_text_held_back_for_a_stop_string_is_given_out_at_the_end() -> None:
    letters = [chr(0x100 + token) for token in continuation(PROMPT, 6, ignore_end=True)]
    rig = Rig()
    rig.submit("a", PROMPT, 6, stop=(letters[5] + "!",), ignore_end=True)
    rig.run()
    assert text(rig.events["a"]) == "".join(letters)


def test_a_long_prompt_delays_running_streams_by_one_chunk_a_token() -> None:
    rig = Rig(chunk_tokens=5)
    rig.submit("running", (3,), 30, ignore_end=True)
    rig.step()
    rig.submit("long", tuple(range(1, 41)), 2, ignore_end=True)
    for _ in range(8):
        before = len(said(rig.events["running"]))
        rig.step()
        rig.step()
        assert len(said(rig.events["running"])) == before + 1
    assert rig.model.chunks[1:] == [5] * 8
    assert said(rig.events["long"]) == continuation(tuple(range(1, 41)), 1, ignore_end=True)


def test_a_cancelled_request_frees_its_slot_within_one_step() -> None:
    rig = Rig(slots=1)
    first = rig.submit("first", PROMPT, 50, ignore_end=True)
    for _ in range(5):
        rig.step()
    rig.submit("second", (7,), 3, ignore_end=True)
    rig.engine.cancel(first)
    rig.step()
    assert finished(rig.events["first"]).reason is FinishReason.CANCELLED
    assert isinstance(rig.events["second"][0], Started)
    rig.run()
    assert said(rig.events["second"]) == continuation((7,), 3, ignore_end=True)


@pytest.mark.parametrize("steps", [0, 1, 3, 6])
def test_cancel_ends_a_request_wherever_it_stands(steps: int) -> None:
    rig = Rig(chunk_tokens=4)
    job = rig.submit("a", PROMPT, 50, ignore_end=True)
    for _ in range(steps):
        rig.step()
    rig.engine.cancel(job)
    rig.engine.cancel(job)
    rig.step()
    assert [e for e in rig.events["a"] if is_terminal(e)] == [finished(rig.events["a"])]
    assert finished(rig.events["a"]).reason is FinishReason.CANCELLED
    assert rig.scheduler.idle


def test_a_full_queue_refuses_with_a_hint_when_to_retry() -> None:
    rig = Rig(slots=1, max_waiting=2)
    for name in "abcd":
        rig.submit(name, PROMPT, 2, ignore_end=True)
    rig.step()
    refused = [name for name, events in rig.events.items() if _failed(events)]
    assert refused == ["c", "d"]
    failure = rig.events["d"][-1]
    assert isinstance(failure, Failed)
    assert (failure.code, failure.retryable) == ("queue_full", True)
    assert failure.retry_after_s is not None
    rig.run()
    assert finished(rig.events["b"]).reason is FinishReason.LENGTH


def test_a_model_that_is_gone_fails_those_at_work_and_nobody_else() -> None:
    rig = Rig(slots=2)
    for name in "abc":
        rig.submit(name, PROMPT, 4, ignore_end=True)
    for _ in range(4):
        rig.step()
    rig.model.is_dead = True
    rig.run()
    ends = {name: events[-1] for name, events in rig.events.items()}
    for name in "ab":
        end = ends[name]
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("engine_failure", True)
    assert said(rig.events["c"]) == continuation(PROMPT, 4, ignore_end=True)
    assert rig.model.recovered == 1


def test_those_of_a_failed_step_hear_of_it_before_the_model_is_opened_anew() -> None:
    rig = Rig()
    rig.submit("a", PROMPT, 4)
    told: list[bool] = []
    rig.model.on_recover = lambda: told.append(_failed(rig.events["a"]))
    rig.model.is_dead = True
    rig.run()
    assert told == [True]


def test_a_model_that_cannot_be_opened_anew_goes_on_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()

    def damaged() -> None:
        raise BundleInvalid("the graph was altered")

    rig.model.on_recover = damaged
    rig.submit("a", PROMPT, 4)
    rig.model.is_dead = True
    rig.run()
    assert _failed(rig.events["a"])
    assert "the graph was altered" in caplog.text
    rig.submit("b", PROMPT, 4, ignore_end=True)
    rig.run()
    assert said(rig.events["b"]) == continuation(PROMPT, 4, ignore_end=True)


def test_a_token_without_text_ends_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    job = rig.submit("a", PROMPT, 3, ignore_end=True)
    rig.submit("b", PROMPT, 3, ignore_end=True)

    def broken(token_id: int) -> str:
        raise ValueError(token_id)

    monkeypatch.setattr(job.text._decoding, "push", broken)
    rig.run()
    (failure,) = [event for event in rig.events["a"] if isinstance(event, Failed)]
    assert (failure.code, failure.retryable) == ("internal", False)
    assert "cannot be turned into text" in failure.message
    assert said(rig.events["b"]) == continuation(PROMPT, 3, ignore_end=True)
    assert rig.model.recovered == 0


def test_the_thread_ends_what_is_left_when_stopped() -> None:
    rig = Rig()
    rig.submit("a", PROMPT, 10**9, ignore_end=True)
    rig.engine.start()
    rig.engine.stop()
    assert finished(rig.events["a"]).reason is FinishReason.CANCELLED


def test_the_loop_answers_between_steps_busy_or_idle():
    rig = Rig()
    heard = []
    rig.engine.ask(lambda: heard.append("idle"))
    rig.step()
    assert heard == ["idle"]
    rig.submit("a", (1, 2), 5, ignore_end=True)
    rig.step()
    rig.engine.ask(lambda: heard.append("busy"))
    rig.step()
    assert heard == ["idle", "busy"]
    assert "a" not in rig.ended


def test_a_loop_that_hangs_in_a_step_answers_nobody():
    rig = Rig()
    held, let_go, asked = threading.Event(), threading.Event(), threading.Event()

    def hang(plan):
        held.set()
        let_go.wait(60)

    rig.model.on_step = hang
    rig.submit("a", (1, 2), 1)
    rig.engine.start()
    assert held.wait(60)
    rig.engine.ask(asked.set)
    assert not asked.wait(0.05)
    let_go.set()
    assert asked.wait(60)
    rig.engine.stop()
