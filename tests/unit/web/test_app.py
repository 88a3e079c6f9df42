"""Routes and refusals, over a real loopback socket."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from nsedge.api import ModelInfo
from nsedge.errors import ConfigInvalid, QueueFull
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.limits import WebLimits
from nsedge.web.listening import Listener, serve
from tests.fakes import MODEL, FakeService
from tests.web_server import Connection, PuppetService, Shim, answered, ask, error_of, served

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}]}


def prompts(count: int) -> dict[str, Any]:
    """A body that asks for so many completions."""
    return {"model": MODEL, "prompt": [str(number) for number in range(count)]}


def test_a_chat_in_one_piece() -> None:
    answer = answered("POST", CHAT, HI)
    body: Any = answer.json
    assert answer.status == 200
    assert body["choices"][0]["message"]["content"] == "one two"
    assert body["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 2,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_stream_has_one_id_and_the_right_headers() -> None:
    answer = answered("POST", CHAT, HI | {"stream": True})
    *chunks, done = answer.data
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1  # type: ignore[index]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


def test_http_1_0_is_streamed_to_the_close() -> None:
    answer = answered("POST", CHAT, HI | {"stream": True}, version="1.0")
    assert "transfer-encoding" not in answer.headers
    assert answer.data[-1] == "[DONE]"


def test_several_prompts_are_several_choices() -> None:
    answer = answered("POST", "/v1/completions", {"model": MODEL, "prompt": ["a b", "c"], "n": 2})
    choices: Any = answer.json["choices"]
    assert [choice["text"] for choice in choices] == ["a b", "a b", "c", "c"]
    assert answer.json["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 6,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_models() -> None:
    listed: Any = answered("GET", "/v1/models").json
    assert listed["object"] == "list"
    assert listed["data"][0]["id"] == MODEL
    assert answered("GET", f"/v1/models/{MODEL}").json == listed["data"][0]
    missing = answered("GET", "/v1/models/none")
    assert (missing.status, error_of(missing)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_route"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
    ],
)
def test_wrong_routes(method: str, path: str, status: int, code: str) -> None:
    answer = answered(method, path)
    assert (answer.status, error_of(answer)["code"]) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


def test_the_core_gets_the_request_id_and_never_one_twice() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asking = [
            asyncio.create_task(ask(shim.port, "POST", CHAT, HI, x_request_id="same"))
            for _ in range(2)
        ]
        first, second = await service.ticket(0), await service.ticket(1)
        assert first.request.request_id == "same"
        assert second.request.request_id.startswith("same-")
        first.finish()
        second.finish()
        for answer in await asyncio.gather(*asking):
            assert answer.headers["x-request-id"] == "same"

    served(test, service)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_before_any_byte_has_its_status(stream: bool) -> None:
    service = FakeService(max_requests=0)
    answer = answered("POST", CHAT, HI | {"stream": stream}, service=service)
    assert (answer.status, error_of(answer)["code"]) == (429, "queue_full")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["retry-after-ms"] == "1000"
    assert answer.headers["x-should-retry"] == "true"


class Broken(FakeService):
    async def models(self) -> tuple[ModelInfo, ...]:
        raise RuntimeError("secret path /root")


def test_a_bug_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = answered("GET", "/v1/models", service=Broken())
    assert answer.status == 500
    assert error_of(answer)["message"] == "internal error"
    assert "secret path" in caplog.text


def test_a_port_in_use_is_a_configuration_error() -> None:
    async def test(shim: Shim) -> None:
        app = create_app(Answering(FakeService()))
        taken = Listener(app=app, host="127.0.0.1", port=shim.port)
        told = f"cannot listen on 127.0.0.1:{shim.port}: Address already in use$"
        with pytest.raises(ConfigInvalid, match=told):
            await serve(taken, stop=asyncio.Event())

    served(test)


def test_one_of_several_prompts_failing_refuses_all() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asking = asyncio.create_task(ask(shim.port, "POST", COMPLETIONS, prompts(2)))
        first, second = await service.ticket(0), await service.ticket(1)
        first.start()
        second.refuse(QueueFull("full"))
        assert (await asking).status == 429
        assert first.cancelled
        assert not second.cancelled

    served(test, service)


def test_impossible_limits_fail_at_the_start() -> None:
    with pytest.raises(ConfigInvalid, match="max_choices"):
        Answering(FakeService(), WebLimits(max_choices=0))


def test_keep_alive_serves_again_on_one_connection() -> None:
    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        for stream in (True, False, True):
            connection.say("POST", CHAT, HI | {"stream": stream})
            answer = await connection.answer()
            assert answer.status == 200
            assert (b"[DONE]" in answer.body) == stream
        connection.say("GET", "/live")
        assert msgspec.json.decode((await connection.answer()).body)["status"] == "live"
        await connection.close()

    served(test)


def test_the_settings_let_a_field_pass_and_the_answer_tells() -> None:
    body = HI | {"provider": {"order": ["x"]}, "verbosity": "low"}
    refused = answered("POST", CHAT, body)
    assert (refused.status, error_of(refused)["param"]) == (400, "provider")
    lax = WebLimits(ignored_fields=("verbosity", "provider"))
    taken = answered("POST", CHAT, body, limits=lax)
    assert (taken.status, taken.headers["x-ignored-fields"]) == (200, "provider, verbosity")
    assert "x-ignored-fields" not in answered("POST", CHAT, HI, limits=lax).headers


@pytest.mark.parametrize("stream", [True, False])
def test_many_prompts_reach_the_core_a_few_at_a_time(stream: bool) -> None:
    """Each that ends lets the next go on, with what is left of the deadline."""
    service = PuppetService()

    async def test(shim: Shim) -> None:
        body = prompts(128) | {"stream": stream, "deadline_s": 100.0}
        asking = asyncio.create_task(ask(shim.port, "POST", COMPLETIONS, body))
        for number in range(128):
            ticket = await service.ticket(number)
            assert len(service.tickets) == min(number + 3, 128)
            ticket.start()
            ticket.say(f"<{number}>")
            ticket.finish()
        answer = await asking
        assert answer.status == 200
        assert all(f"<{number}>".encode() in answer.body for number in range(128))

    served(test, service, limits=WebLimits(max_in_flight=3))
    labels = {ticket.request.request_id for ticket in service.tickets}
    assert len(labels) == 128
    left_s = [ticket.request.deadline_s or 0 for ticket in service.tickets]
    assert left_s[:3] == [100.0] * 3
    assert all(later <= earlier for earlier, later in itertools.pairwise(left_s))
    assert 0 < left_s[-1] < 100.0


def test_no_further_prompt_begins_once_one_has_failed() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        asking = asyncio.create_task(ask(shim.port, "POST", COMPLETIONS, prompts(128)))
        first, second = await service.ticket(0), await service.ticket(1)
        first.refuse(QueueFull("full"))
        assert (await asking).status == 429
        assert second.cancelled
        second.finish()

    served(test, service, limits=WebLimits(max_in_flight=2))
    assert len(service.tickets) == 2
