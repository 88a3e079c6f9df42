"""Events of the core as OpenAI's realtime events tell them."""

from __future__ import annotations

from typing import Any

from nsedge.api import Activity, Committed, Event, Failed, Segment
from nsedge.errors import EngineFailure
from nsedge.web.doors.openai.realtime.items import Items

DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


def speaks(at_s: float, speaking: bool = True) -> Activity:
    return Activity(request_id="r", speaking=speaking, at_s=at_s)


def said(text: str, stable: int | None = None, seq: int = 0) -> Segment:
    return Segment(
        request_id="r",
        seq=seq,
        start_s=0.0,
        end_s=1.0,
        text=text,
        final=stable is None,
        stable=len(text) if stable is None else stable,
    )


def done(at_s: float) -> Committed:
    return Committed(request_id="r", at_s=at_s)


def told(items: Items, *events: Event) -> list[dict[str, Any]]:
    return [one for event in events for one in items.heard(event)]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("input_audio_buffer.") for one in events]


def test_a_turn_is_an_item_whose_deltas_are_its_transcript() -> None:
    items = Items()
    events = told(
        items,
        speaks(0.5),
        said(" He was", 3),
        said(" He was not", 7),
        speaks(3.0, False),
        said(" He was not."),
        done(3.0),
    )
    assert kinds(events) == [
        *("speech_started", DELTA, DELTA, "speech_stopped", "committed"),
        *("conversation.item.added", "conversation.item.done", DELTA, COMPLETED),
    ]
    assert {one["item_id"] for one in events if "item_id" in one} == {events[0]["item_id"]}
    assert events[0]["audio_start_ms"] == 500
    assert events[3]["audio_end_ms"] == 3000
    assert events[-1]["transcript"] == "He was not."
    assert "".join(one["delta"] for one in events if one["type"] == DELTA) == "He was not."
    assert events[-1]["usage"] == {"type": "duration", "seconds": 2.5}
    assert events[5]["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_items_follow_each_other() -> None:
    items = Items(beta=True)
    events = told(items, speaks(0.0), speaks(1.0, False), said(" One."), done(1.0))
    assert "conversation.item.created" in kinds(events)
    first = events[0]["item_id"]
    items.offset_s = 10.0
    events = told(items, speaks(0.0), speaks(1.0, False), said(" Two."), done(1.0))
    assert events[0]["audio_start_ms"] == 10_000
    committed = next(one for one in events if one["type"].endswith("committed"))
    assert committed["previous_item_id"] == first
    assert committed["item_id"] != first


def test_without_turns_the_client_commits_and_nothing_is_told_before() -> None:
    items = Items()
    items.turns = False
    assert told(items, speaks(0.0), said(" One two.")) == []
    first = items.commit(0.0)
    second = items.commit(2.0)
    assert kinds(first)[0] == kinds(second)[0] == "committed"
    events = told(items, said(" three"), done(2.0), said(" Four.", seq=1), done(4.0))
    assert [one["type"] for one in events] == [DELTA, COMPLETED, DELTA, COMPLETED]
    assert [one["transcript"] for one in events if "transcript" in one] == [
        "One two. three",
        "Four.",
    ]
    assert events[1]["item_id"] == first[0]["item_id"]
    assert events[3]["item_id"] == second[0]["item_id"]
    assert events[3]["usage"]["seconds"] == 2.0


def test_a_commit_in_the_middle_of_a_turn_ends_its_item_and_another_goes_on() -> None:
    items = Items()
    told(items, speaks(0.0), said(" One", 0))
    assert items.commit(0.0) == []
    events = told(items, said(" One two."), done(1.5))
    assert "committed" in kinds(events)
    assert events[-1]["transcript"] == "One two."
    events = told(items, said(" three", 6, seq=1), speaks(3.0, False), said(" three."), done(3.0))
    assert "speech_stopped" in kinds(events)
    assert events[-1]["transcript"] == "three."


def test_a_commit_of_silence_is_an_item_without_words() -> None:
    items = Items()
    items.commit(0.0)
    events = told(items, done(1.0))
    assert (events[-1]["type"], events[-1]["transcript"]) == (COMPLETED, "")


def test_what_is_cleared_is_not_told() -> None:
    items = Items()
    told(items, speaks(0.0), said(" One", 0))
    items.clear()
    assert told(items, done(1.0)) == []


def test_a_failure_is_told_of_the_items_that_wait_and_once_more_for_itself() -> None:
    items = Items()
    items.turns = False
    (committed, *_) = items.commit(0.0)
    events = told(items, Failed.of("r", EngineFailure("no step")))
    assert [one["type"] for one in events] == [
        "conversation.item.input_audio_transcription.failed",
        "error",
    ]
    assert events[0]["item_id"] == committed["item_id"]
    assert events[0]["error"]["message"] == "no step"
    assert events[1]["error"]["type"] == "server_error"
    assert told(items, done(1.0)) == []
