"""A line a request in the log, with its id and figures, and without its text."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from nsedge.api import (
    Caption,
    Chat,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Media,
    MediaPart,
    Message,
    Request,
    Role,
    TextPart,
    Timings,
    Transcribe,
    Usage,
)
from nsedge.cli import logs
from nsedge.core.journal import Journal
from nsedge.errors import QueueFull

SECRET = "my secret"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def request(*, chat: bool = False, trace: str | None = None) -> Request:
    said = Chat(messages=(Message(role=Role.USER, content=SECRET),))
    task = said if chat else Generate(text=SECRET)
    return Request(request_id="r 1\nfake=1", model="m", task=task, traceparent=trace)


def finished() -> Finished:
    return Finished(
        request_id="r",
        reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=2),
        timings=Timings(queue_s=0.25, prefill_s=0.5, decode_s=1.0),
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(logs.JsonLines().format(record)) for record in caplog.records]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nsedge.requests")


def test_a_request_that_ended_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    journal, asked = Journal(), request(trace=TRACE)
    journal.began(asked)
    journal.ended(asked, finished())
    (line,) = lines(caplog)
    del line["time"]
    assert line == {
        "level": "info",
        "logger": "nsedge.requests",
        "message": "a request ended",
        "request_id": "r 1\nfake=1",
        "model": "m",
        "traceparent": TRACE,
        "reason": "stop",
        "prompt_tokens": 7,
        "cached_tokens": 2,
        "completion_tokens": 5,
        "queue_s": 0.25,
        "prefill_s": 0.5,
        "decode_s": 1.0,
    }
    assert journal.failures == {}


def test_failures_are_counted_by_code(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    for _ in range(2):
        journal.ended(request(), Failed.of("r", QueueFull("full")))
    assert journal.failures == {"queue_full": 2}
    assert [line["code"] for line in lines(caplog)] == ["queue_full"] * 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("chat", "told"), [(False, SECRET), (True, [{"role": "user", "content": SECRET}])]
)
def test_prompts_are_told_where_that_is_asked_for(
    chat: bool, told: object, caplog: pytest.LogCaptureFixture
) -> None:
    Journal(prompts=True).began(request(chat=chat))
    (line,) = lines(caplog)
    assert line["prompt"] == told


def test_of_media_it_is_told_what_they_are_and_no_byte(caplog: pytest.LogCaptureFixture) -> None:
    media = Media(type="image/png", data=b"bytes")
    turn = Message(role=Role.USER, content=(TextPart(text=SECRET), MediaPart(media=media)))
    asked = Request(request_id="r", model="m", task=Chat(messages=(turn,)))
    Journal(prompts=True).began(asked)
    (line,) = lines(caplog)
    shown = {"type": "image/png", "bytes": 5, "sha256": media.sha256}
    assert line["prompt"] == [{"role": "user", "content": SECRET, "media": [shown]}]


def test_a_recording_is_told_by_what_it_is_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    media = Media(type="audio/wav", data=b"bytes")
    asked = Request(request_id="r", model="m", task=Transcribe(media=media, prompt="So"))
    journal = Journal(prompts=True)
    journal.began(asked)
    heard = Usage(prompt_tokens=0, completion_tokens=5, audio_s=2.5)
    journal.ended(asked, replace(finished(), usage=heard))
    journal.ended(asked, finished())
    began, ended, silent = lines(caplog)
    shown = {"type": "audio/wav", "bytes": 5, "sha256": media.sha256}
    assert began["prompt"] == {"prompt": "So", "media": [shown]}
    assert ended["audio_s"] == 2.5
    assert "audio_s" not in silent


def test_a_picture_is_told_by_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    media = Media(type="image/png", data=b"bytes")
    asked = Request(request_id="r", model="m", task=Caption(media=media, prompt="A"))
    journal = Journal(prompts=True)
    journal.began(asked)
    seen = Usage(prompt_tokens=1, completion_tokens=5, images=1)
    journal.ended(asked, replace(finished(), usage=seen))
    began, ended = lines(caplog)
    shown = {"type": "image/png", "bytes": 5, "sha256": media.sha256}
    assert began["prompt"] == {"prompt": "A", "media": [shown]}
    assert ended["images"] == 1


def test_what_a_client_chose_makes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    Journal().ended(request(), finished())
    (record,) = caplog.records
    text = logs.TextLines().format(record)
    assert text.count("\n") == 0
    assert r'request_id="r 1\nfake=1" model=m' in text
