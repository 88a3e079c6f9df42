"""Transcripts and translations, over a real loopback socket, to the letter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from nsedge.api import Transcribe
from nsedge.api.tasks import TEMPERATURES
from nsedge.errors import InvalidMedia
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.forms import FORM, form
from tests.web_server import Answer, Shim, answered, ask, served, until

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
FILE = ("file", b"one two", "audio/wav")


def asked(
    *fields: Any, path: str = TRANSCRIPTIONS, service: FakeService | None = None, **options: Any
) -> Answer:
    raw = form(("model", MODEL.encode()), FILE, *((name, value.encode()) for name, value in fields))
    return answered("POST", path, raw=raw, service=service or FakeService(), **options, **FORM)


def refused(*fields: Any, path: str = TRANSCRIPTIONS) -> tuple[int, str]:
    answer = asked(*fields, path=path)
    error: Any = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status, error["param"]


USAGE = {"type": "duration", "seconds": 2.0}


def test_json_is_the_text_and_how_long_it_was() -> None:
    answer = asked()
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"text": "one two", "usage": USAGE}


def test_verbose_json_has_the_segments() -> None:
    said: Any = asked(("response_format", "verbose_json"), ("language", "de-DE")).json
    segments = said.pop("segments")
    assert said == {
        "task": "transcribe",
        "language": "german",
        "duration": 2.0,
        "text": "one two",
        "usage": USAGE,
    }
    assert segments[1] == {
        "id": 1,
        "seek": 0,
        "start": 1.0,
        "end": 2.0,
        "text": " two",
        "tokens": [1, 2],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.125,
    }


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
@pytest.mark.parametrize(
    ("granularities", "told"),
    [
        (["word"], {"words"}),
        (["segment"], {"segments"}),
        (["word", "segment"], {"words", "segments"}),
    ],
)
def test_granularities_are_what_is_told(
    name: str, granularities: list[str], told: set[str]
) -> None:
    service = FakeService()
    fields = [(name, one) for one in granularities]
    said: Any = asked(("response_format", "verbose_json"), *fields, service=service).json
    assert {"words", "segments"} & set(said) == told
    task = service.requests[0].task
    assert isinstance(task, Transcribe)
    assert task.word_timestamps is ("words" in told)
    if "words" in told:
        assert said["words"][1] == {"word": "two", "start": 1.0, "end": 1.5}


@pytest.mark.parametrize(
    ("form_wanted", "content_type", "body"),
    [
        ("text", "text/plain; charset=utf-8", "one two\n"),
        (
            "srt",
            "text/plain; charset=utf-8",
            "1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:01,000 --> 00:00:02,000\ntwo\n\n",
        ),
        (
            "vtt",
            "text/vtt; charset=utf-8",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none\n\n"
            "00:00:01.000 --> 00:00:02.000\ntwo\n\n",
        ),
    ],
)
def test_other_formats(form_wanted: str, content_type: str, body: str) -> None:
    answer = asked(("response_format", form_wanted))
    assert answer.headers["content-type"] == content_type
    assert answer.body.decode() == body


def test_a_stream_has_a_delta_a_segment_and_is_the_text() -> None:
    answer = asked(("stream", "true"))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.data == [
        {"type": "transcript.text.delta", "delta": "one"},
        {"type": "transcript.text.delta", "delta": " two"},
        {"type": "transcript.text.done", "text": "one two", "usage": USAGE},
    ]


def test_a_stream_that_breaks_off_ends_with_the_error() -> None:
    data: Any = asked(("stream", "true"), service=FakeService(fail_after=2)).data
    assert data[0] == {"type": "transcript.text.delta", "delta": "one"}
    assert data[-1]["error"]["message"] == "the fake broke off as told"


def test_every_field_is_passed_on() -> None:
    service = FakeService()
    asked(
        ("language", "English"),
        ("prompt", "Two and"),
        ("temperature", "0.6"),
        ("beam_size", "5"),
        ("patience", "1.5"),
        ("chunking_strategy", "auto"),
        ("seed", "-1"),
        ("priority", "batch"),
        service=service,
    )
    request = service.requests[0]
    task = request.task
    assert isinstance(task, Transcribe)
    assert (task.language, task.prompt, task.vad) == ("en", "Two and", True)
    assert (task.temperatures, task.seed) == ((0.6, 0.8, 1.0), 2**64 - 1)
    assert (task.beams, task.patience) == (5, 1.5)
    assert (task.media.type, task.media.data) == ("audio/wav", b"one two")
    assert request.priority == "batch"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("response_format", "diarized_json")], "response_format"),
        ([("response_format", "xml")], "response_format"),
        ([("stream", "true"), ("response_format", "srt")], "response_format"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities"),
        (
            [("timestamp_granularities[]", "char"), ("response_format", "verbose_json")],
            "timestamp_granularities",
        ),
        ([("language", "xx")], "language"),
        ([("temperature", "2.5")], "temperature"),
        ([("beam_size", "0")], "beam_size"),
        ([("patience", "0")], "patience"),
        ([("temperature", "-0.5")], "temperature"),
        ([("chunking_strategy", "server_vad")], "chunking_strategy"),
        ([("include[]", "logprobs")], "include"),
        ([("known_speaker_names[]", "me")], "known_speaker_names"),
        ([("hotwords", "nsedge")], "hotwords"),
        ([("prompt", "a"), ("prompt", "b")], "prompt"),
        ([("file", "again")], "file"),
        ([("stream", "perhaps")], "stream"),
        ([("priority", "soon")], "priority"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: list[tuple[str, str]], param: str) -> None:
    assert refused(*fields) == (400, param)


@pytest.mark.parametrize("missing", ["file", "model"])
def test_file_and_model_are_required(missing: str) -> None:
    given = [one for one in (("model", MODEL.encode()), FILE) if one[0] != missing]
    answer = answered("POST", TRANSCRIPTIONS, raw=form(*given), **FORM)  # type: ignore[arg-type]
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, missing)


def test_a_translation_is_in_english() -> None:
    service = FakeService()
    said: Any = asked(("response_format", "verbose_json"), path=TRANSLATIONS, service=service).json
    assert (said["task"], said["language"], said["text"]) == ("translate", "english", "one two")
    task = service.requests[0].task
    assert isinstance(task, Transcribe)
    assert task.translate


@pytest.mark.parametrize("field", ["language", "stream", "timestamp_granularities"])
def test_a_translation_has_fewer_fields(field: str) -> None:
    assert refused((field, "en"), path=TRANSLATIONS) == (400, field)


def test_no_other_body_is_read() -> None:
    answer = answered("POST", TRANSCRIPTIONS, {"model": MODEL})
    assert (answer.status, answer.json["error"]["code"]) == (415, "unsupported_media_type")  # type: ignore[index]
    answer = answered("POST", "/v1/embeddings", raw=form(FILE), **FORM)
    assert (answer.status, answer.json["error"]["code"]) == (415, "unsupported_media_type")  # type: ignore[index]


class Deaf(FakeService):
    """Refuses what it is sent."""

    def _words(self, request: Any) -> list[str]:
        raise InvalidMedia("this is PNG, and no sound that is read here", param="media")


def test_sound_that_cannot_be_read_is_the_files_fault() -> None:
    answer = asked(service=Deaf())
    error: Any = answer.json["error"]
    assert (answer.status, error["param"], error["code"]) == (400, "file", "invalid_media")
    assert "PNG" in error["message"]


def test_a_file_may_be_as_large_as_uploads_may() -> None:
    limits = WebLimits(max_body_bytes=64, max_upload_bytes=100)
    assert asked(limits=limits).status == 413
    limits = WebLimits(max_body_bytes=64, max_upload_bytes=3000)
    assert asked(limits=limits).status == 200


def test_all_uploads_together_have_bounds() -> None:
    limits = WebLimits(max_upload_bytes=3000)
    raw = form(("model", MODEL.encode()), ("file", b"x" * 2500, "audio/wav"))

    async def test(shim: Shim) -> None:
        def post() -> Awaitable[Answer]:
            return ask(shim.port, "POST", TRANSCRIPTIONS, raw=raw, **FORM)

        service.gate = asyncio.Event()
        held = [asyncio.ensure_future(post()) for _ in range(4)]
        await until(lambda: len(service.live) == 4)
        refused = await post()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        service.gate.set()
        assert [one.status for one in await asyncio.gather(*held)] == [200] * 4
        assert (await post()).status == 200

    service = FakeService()
    served(test, service, limits=limits)


def test_the_first_temperature_is_followed_by_higher_ones() -> None:
    service = FakeService()
    asked(service=service)
    task = service.requests[0].task
    assert isinstance(task, Transcribe)
    assert task.temperatures == TEMPERATURES
