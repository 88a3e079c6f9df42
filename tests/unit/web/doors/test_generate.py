"""The generate door, over a real loopback socket, and its stream to the letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nsedge.api import Chat, Generate, ModelInfo, ModelState
from nsedge.web.doors.generate import GenerateStream
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grammar", "root ::= 'x'"),
        ("json_schema", {}),
        ("structured_outputs", {"regex": "x"}),
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
