"""The generate door, over a real loopback socket, and its stream to the letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nsedge.api import (
    Caption,
    Chat,
    Classify,
    Constraint,
    Generate,
    Media,
    MediaPart,
    ModelInfo,
    ModelState,
    Sampling,
    Transcribe,
)
from nsedge.api.tasks import TEMPERATURES
from nsedge.errors import InvalidMedia, InvalidParameter
from nsedge.web.door_settings import DoorSettings
from nsedge.web.doors.generate import GenerateStream
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole
from tests.unit.web.forms import FORM, form
from tests.web_server import PuppetService, Shim, answered, ask, served


def test_generate_takes_the_first_ready_model() -> None:
    answer = answered("POST", "/api/generate", {"text": "a b", "stream": True, "max_tokens": 1})
    assert answer.json["text"] == "a"
    assert answer.json["reason"] == "length"
    assert answer.json["model"] == MODEL


def test_generate_streams_whatever_stream_says() -> None:
    answer = answered("POST", "/api/generate/stream", {"text": "a b", "stream": False})
    assert answer.data[:2] == [{"text": "a", "done": False}, {"text": " b", "done": False}]
    last: Any = answer.data[2]
    assert (last["done"], last["reason"]) == (True, "stop")


def test_generate_tells_log_probabilities_where_asked() -> None:
    body = {"text": "a b", "logprobs": 1}
    first, second = answered("POST", "/api/generate", body).json["logprobs"]
    assert (first["id"], first["token"], first["bytes"], first["rank"]) == (0, "a", [97], 1)
    assert first["top"] == [{"id": 0, "token": "a", "logprob": first["logprob"], "bytes": [97]}]
    data: Any = answered("POST", "/api/generate/stream", body).data
    assert [piece["logprobs"] for piece in data[:2]] == [[first], [second]]
    assert "logprobs" not in answered("POST", "/api/generate", {"text": "a b"}).json


@pytest.mark.parametrize(("raw", "kind"), [(False, Chat), (True, Generate)])
def test_generate_speaks_as_the_user_unless_raw(raw: bool, kind: type) -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asking = asyncio.create_task(
            ask(shim.port, "POST", "/api/generate", {"text": "a", "raw": raw})
        )
        ticket = await service.ticket()
        assert isinstance(ticket.request.task, kind)
        ticket.finish()
        assert (await asking).status == 200

    served(test, service)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": ""}, 400, "empty_prompt"),
        ({"text": "x", "model": "none"}, 404, "unknown_model"),
        ({"text": "x", "temperature": -1}, 400, "invalid_parameter"),
        ({"text": "x", "logprobs": -1}, 400, "invalid_parameter"),
        ({"text": "x", "top_logprobs": 2}, 400, "invalid_parameter"),
        ({"text": "x" * 11}, 413, "message_too_large"),
    ],
)
def test_generate_refusals(body: object, status: int, code: str) -> None:
    answer = answered("POST", "/api/generate", body, limits=WebLimits(max_prompt_chars=10))
    error: Any = answer.json["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert error["message"]


class AllFailed(FakeService):
    async def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(name="m", kind="causal-lm", state=ModelState.FAILED, created=0),)


def test_generate_without_a_ready_model() -> None:
    answer = answered("POST", "/api/generate", {"text": "x"}, service=AllFailed())
    assert answer.status == 503
    assert answer.headers["x-should-retry"] == "true"


def test_a_generate_stream_to_the_letter() -> None:
    stream = GenerateStream()
    assert whole(stream, STARTED, delta("a"), finished()) == (
        b': started\n\ndata: {"text":"a","done":false}\n\n'
        b'data: {"done":true,"reason":"stop",'
        b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":0}},'
        b'"timings":{"queue_s":0.1,"prefill_s":0.2,"decode_s":0.3}}\n\n'
    )
    assert stream.ended


def test_a_failure_of_the_generate_door() -> None:
    assert whole(GenerateStream(), FAILED) == (
        b'data: {"error":{"code":"engine_failure","message":"broke","param":null,'
        b'"retryable":true}}\n\n'
    )


@pytest.mark.parametrize("route", ["/api/generate", "/api/generate/stream"])
def test_fields_of_its_clients_own_are_left_out_and_told(route: str) -> None:
    body = {"text": "a", "stream": True, "user": "u", "temprature": 1, "n\r\nx: y": 2, "top_n": 0}
    answer = answered("POST", route, body)
    assert answer.status == 200
    assert answer.headers["x-ignored-fields"] == "temprature, ?, top_n"


def test_odd_fields_of_a_form_are_left_out_and_told() -> None:
    odd = (("", b"a"), ("größe", b"b"), ("mine", b"c"), ("mine", b"d"), ("mine[]", b"e"))
    raw = form(("text", b"a b"), *odd)
    answer = answered("POST", "/api/generate", raw=raw, **FORM)
    assert answer.status == 200
    assert answer.headers["x-ignored-fields"] == "mine, ?, ?"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("structural_tag", {}),
        ("format", "json"),
        ("tools", [{}]),
        ("chat_template_kwargs", {"enable_thinking": False}),
    ],
)
def test_what_would_change_the_answer_is_refused_here_too(field: str, value: object) -> None:
    answer = answered("POST", "/api/generate", {"text": "a", field: value})
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, field)
    assert answered("POST", "/api/generate", {"text": "a", field: None}).status == 200


PNG, WAV = ("image", b"pixels", "image/png"), ("audio", b"sound", "audio/wav")


@pytest.mark.parametrize("route", ["/api/generate", "/api/generate/stream"])
def test_a_form_joins_its_media_to_the_prompt(route: str) -> None:
    service = FakeService()
    raw = form(("text", b"a b"), PNG, WAV, ("max_tokens", b"1"), ("temperature", b"0"))
    answer = answered("POST", route, raw=raw, service=service, **FORM)
    assert answer.status == 200
    task = service.requests[0].task
    assert isinstance(task, Chat)
    (said,) = task.messages
    assert said.text == "a b"
    assert [(one.type, one.data) for one in said.media] == [
        ("image/png", b"pixels"),
        ("audio/wav", b"sound"),
    ]
    assert (task.sampling.max_tokens, task.sampling.temperature) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([PNG], "text"),
        ([("text", b"a"), ("text", b"b")], "text"),
        ([("text", b"a"), ("image", b"x")], "image"),
        ([("text", b"a"), ("image", b"x", "audio/wav")], "image"),
        ([("text", b"a"), ("audio", b"", "audio/wav")], "audio"),
        ([("text", b"a"), ("max_tokens", b"x")], "max_tokens"),
        ([("text", b"a"), ("structural_tag", b"x")], "structural_tag"),
        ([("text", b"a"), ("raw", b"true"), PNG], "raw"),
    ],
)
def test_forms_that_are_refused_by_name(fields: list[Any], param: str) -> None:
    answer = answered("POST", "/api/generate", raw=form(*fields), **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, param)


class Blind(PuppetService):
    """Refuses the last of the media as the core does."""

    def submit(self, request: Any, sink: Any) -> Any:
        ticket = super().submit(request, sink)
        content = request.task.messages[0].content
        shown = [one for one in content if isinstance(one, MediaPart)][-1]
        wrong = f"{shown.place}: this model reads text, and takes no {shown.media.type}"
        asyncio.get_running_loop().call_soon(
            ticket.refuse, InvalidParameter(wrong, param=shown.place)
        )
        return ticket


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("/api/generate", [("text", b"a"), PNG], "image"),
        ("/api/generate", [PNG, WAV, ("text", b"a"), PNG], "image[1]"),
        ("/api/generate/stream", [("text", b"a"), WAV], "audio"),
        ("/api/multimodal/vision/caption", [PNG, ("text", b"What?")], "image"),
    ],
)
def test_a_model_that_takes_no_media_says_so_of_the_field(
    route: str, fields: list[Any], param: str
) -> None:
    answer = answered("POST", route, raw=form(*fields), service=Blind(), **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: this model reads text, and takes no {param[:5]}/")


CAPTION = "/api/multimodal/vision/caption"


def test_a_caption() -> None:
    service = FakeService(tasks=("caption",))
    raw = form(PNG, ("prompt", b"It is"), ("max_tokens", b"3"), ("regex", b"[ab]"))
    answer = answered("POST", CAPTION, raw=raw, service=service, **FORM)
    caption: Any = answer.json
    assert (caption["caption"], caption["model"]) == ("pixels", MODEL)
    assert caption["time_s"] > 0
    (asked,) = service.requests
    assert asked.task == Caption(
        media=Media(type="image/png", data=b"pixels"),
        prompt="It is",
        sampling=Sampling(max_tokens=3),
        constraint=Constraint.regex("[ab]"),
    )
    settings = DoorSettings(vision_model="none")
    missing = answered("POST", CAPTION, raw=form(PNG), settings=settings, **FORM)
    assert missing.status == 404
    for fields in ([], [PNG, PNG]):
        answer = answered("POST", CAPTION, raw=form(*fields), **FORM)
        assert (answer.status, answer.json["error"]["param"]) == (400, "image")  # type: ignore[index]


def test_a_model_that_answers_is_asked_in_words_what_an_image_shows() -> None:
    asked = answered("POST", CAPTION, raw=form(PNG, ("text", b"What is it?")), **FORM)
    assert asked.json["caption"] == "What is it? image/png=6"  # type: ignore[index]
    named = form(PNG, ("model", MODEL.encode()))
    service = FakeService(tasks=("chat",))
    asked = answered("POST", CAPTION, raw=named, service=service, **FORM)
    usual = "Describe this image in one sentence. image/png=6"
    assert asked.json["caption"] == usual  # type: ignore[index]


@pytest.mark.parametrize(
    ("tasks", "field", "status", "told"),
    [
        (("caption",), "text", 400, "takes no text"),
        (("chat",), "prompt", 400, "does not caption"),
    ],
)
def test_a_field_that_says_nothing_to_a_model_is_refused(
    tasks: tuple[str, ...], field: str, status: int, told: str
) -> None:
    raw = form(PNG, (field, b"x"), ("model", MODEL.encode()))
    answer = answered("POST", CAPTION, raw=raw, service=FakeService(tasks=tasks), **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (status, field)
    assert told in error["message"]


def test_an_image_that_cannot_be_read_is_told_by_its_field() -> None:
    class Unreadable(PuppetService):
        def submit(self, request: Any, sink: Any) -> Any:
            ticket = super().submit(request, sink)
            refusal = InvalidMedia("no picture", param="media")
            asyncio.get_running_loop().call_soon(ticket.refuse, refusal)
            return ticket

    answer = answered("POST", CAPTION, raw=form(PNG), service=Unreadable(), **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_media", "image")
    blind = FakeService(tasks=("generate", "chat"))
    answer = answered("POST", CAPTION, raw=form(PNG), service=blind, **FORM)
    error = answer.json["error"]  # type: ignore[index]
    assert (answer.status, error["code"]) == (503, "not_ready")
    assert "caption" in error["message"]


FITS = "/api/multimodal/vision/classify"


def test_the_label_that_fits_an_image() -> None:
    service = FakeService(kind="dual-encoder")
    raw = form(PNG, ("labels", b"a boat"), ("labels", b"a bird"), ("prompt", b"{}!"))
    answer = answered("POST", FITS, raw=raw, service=service, **FORM)
    said: Any = answer.json
    assert said.pop("time_s") > 0
    fits = [{"label": "a boat", "score": 0.75}, {"label": "a bird", "score": 0.25}]
    assert said == {**fits[0], "labels": fits, "model": MODEL}
    picture = Media(type="image/png", data=b"pixels")
    wanted = Classify(inputs=(picture,), labels=("a boat", "a bird"), prompt="{}!")
    assert service.requests[0].task == wanted


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ([("labels", b"a")], 400, "image"),
        ([PNG, PNG, ("labels", b"a")], 400, "image"),
        ([PNG], 400, "labels"),
        ([PNG, ("labels", b"a"), ("labels", b"a")], 400, "labels"),
        ([PNG, ("labels[]", b"a"), ("prompt", b"no place")], 400, "prompt"),
        ([PNG, ("labels", b"a"), ("top_k", b"0")], 400, "top_k"),
        ([PNG, ("labels", b"a"), ("model", b"none")], 404, "model"),
    ],
)
def test_labels_that_cannot_be_had(fields: list[Any], status: int, param: str) -> None:
    service = FakeService(kind="dual-encoder")
    answer = answered("POST", FITS, raw=form(*fields), service=service, **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (status, param)


class Unreadable(PuppetService):
    """Finds no picture in what it is shown."""

    kind = "dual-encoder"

    def submit(self, request: Any, sink: Any) -> Any:
        ticket = super().submit(request, sink)
        refusal = InvalidMedia("input 0: no picture", param="inputs")
        asyncio.get_running_loop().call_soon(ticket.refuse, refusal)
        return ticket


def test_labels_want_a_model_that_compares_and_a_picture() -> None:
    raw = form(PNG, ("labels", b"a"))
    missing = answered("POST", FITS, raw=raw, **FORM)
    assert missing.status == 503
    assert "no dual-encoder that does classify" in str(missing.json)
    named = form(PNG, ("labels", b"a"), ("model", MODEL.encode()))
    refused: Any = answered("POST", FITS, raw=named, service=Unreadable(), **FORM).json
    assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_media", "image")


TRANSCRIBE = "/api/multimodal/audio/transcribe"


def test_a_transcript() -> None:
    service = FakeService()
    raw = form(("audio", b"one two", "audio/x-wav"), ("language", b"German"), ("vad", b"false"))
    answer = answered("POST", TRANSCRIBE, raw=raw, service=service, **FORM)
    said: Any = answer.json
    assert said.pop("time_s") > 0
    assert said == {"text": "one two", "language": "de", "duration_s": 2.0, "model": MODEL}
    task = service.requests[0].task
    assert isinstance(task, Transcribe)
    assert (task.media.type, task.media.data) == ("audio/x-wav", b"one two")
    assert (task.language, task.vad, task.temperatures) == ("de", False, TEMPERATURES)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ([], 400, "audio"),
        ([("audio", b"a"), ("audio", b"b")], 400, "audio"),
        ([("audio", b"")], 400, "audio"),
        ([("audio", b"a"), ("language", b"klingon")], 400, "language"),
        ([("audio", b"a"), ("temperature", b"3")], 400, "temperature"),
        ([("audio", b"a"), ("temperature", b"warm")], 400, "temperature"),
        ([("audio", b"a"), ("model", b"none")], 404, "model"),
    ],
)
def test_a_transcript_that_cannot_be(fields: list[Any], status: int, param: str) -> None:
    answer = answered("POST", TRANSCRIBE, raw=form(*fields), **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (status, param)


def test_the_speech_model_is_the_configured_one_or_the_first_that_transcribes() -> None:
    raw = form(("audio", b"a"))
    settings = DoorSettings(speech_model="none")
    assert answered("POST", TRANSCRIBE, raw=raw, settings=settings, **FORM).status == 404
    deaf = FakeService(tasks=("generate", "chat"))
    answer = answered("POST", TRANSCRIBE, raw=raw, service=deaf, **FORM)
    error: Any = answer.json["error"]
    assert (answer.status, error["code"]) == (503, "not_ready")
    assert "transcribe" in error["message"]


def test_a_form_may_be_longer_than_other_bodies() -> None:
    limits = WebLimits(max_body_bytes=64, max_upload_bytes=4096)
    answer = answered("POST", TRANSCRIBE, raw=form(("audio", b"x" * 2000)), limits=limits, **FORM)
    assert answer.status == 200
    answer = answered("POST", TRANSCRIBE, raw=form(("audio", b"x" * 5000)), limits=limits, **FORM)
    assert (answer.status, answer.json["error"]["code"]) == (413, "message_too_large")  # type: ignore[index]
