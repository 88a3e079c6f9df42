"""The chat service, over a real loopback socket, and its stream to the letter."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from nsedge.api import Chat, LoadWish, ModelInfo, ModelState, Role
from nsedge.errors import EngineFailure, InsufficientMemory
from nsedge.web import doors
from nsedge.web.door_settings import DoorSettings
from nsedge.web.doors.chat.help import ENDPOINTS
from nsedge.web.doors.chat.stream import FragmentStream
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole
from tests.web_server import Answer, Connection, PuppetService, Shim, answered, served, until

PNG = {"data_base64": base64.b64encode(b"pixels").decode(), "mime_type": "image/png"}
VISION = DoorSettings(vision_model=MODEL)


def said(text: str = "a b", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def lines(answer: Answer) -> list[Any]:
    assert answer.body.endswith(b"\n")
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def test_a_stream_to_the_letter() -> None:
    stream = FragmentStream("m")
    assert (
        whole(stream, STARTED, delta("Hé\n"), delta(""), delta('"'), finished())
        == (
            '{"type":"fragment","content":"Hé\\n"}\n'
            '{"type":"fragment","content":"\\""}\n'
            '{"type":"done","model":"m","predicted_tokens":2,"stop_reason":"stop"}\n'
        ).encode()
    )
    assert stream.ended


def test_a_failure_in_the_midst_of_a_stream() -> None:
    stream = FragmentStream("m")
    assert whole(stream, STARTED, delta("a"), FAILED, delta("b")) == (
        b'{"type":"fragment","content":"a"}\n{"type":"error","detail":"broke"}\n'
    )
    assert stream.ended


@pytest.mark.parametrize("path", ["/chat", "/chat/regular", "/chat/vision"])
def test_an_answer_in_one_piece(path: str) -> None:
    answer = answered("POST", path, said(config={"maxTokens": 1}), settings=VISION)
    assert (answer.status, answer.json) == (
        200,
        {"model": MODEL, "content": "a", "stop_reason": "length", "predicted_tokens": 1},
    )


@pytest.mark.parametrize("path", ["/chat/stream", "/chat/regular/stream", "/chat/vision/stream"])
def test_an_answer_as_lines(path: str) -> None:
    answer = answered("POST", path, said(model_key=MODEL), settings=VISION)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert lines(answer) == [
        {"type": "fragment", "content": "a"},
        {"type": "fragment", "content": " b"},
        {"type": "done", "model": MODEL, "predicted_tokens": 2, "stop_reason": "stop"},
    ]


def test_config_and_conversation_reach_the_core() -> None:
    service = FakeService()
    turns = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "t"},
        {"role": "user", "content": "u", "images": [PNG, PNG]},
    ]
    config = {
        "temperature": 0.5,
        "maxTokens": 9,
        "topP": 0.25,
        "presencePenalty": -1,
        "frequencyPenalty": 1,
        "topK": 3,
        "deadlineS": 60,
        "priority": "batch",
    }
    answer = answered("POST", "/chat", {"messages": turns, "config": config}, service=service)
    assert answer.status == 200
    (request,) = service.requests
    task = request.task
    assert isinstance(task, Chat)
    assert [turn.role for turn in task.messages] == [Role.SYSTEM, Role.ASSISTANT, Role.USER]
    assert [(one.type, one.data) for one in task.messages[2].media] == [
        ("image/png", b"pixels")
    ] * 2
    sampled = task.sampling
    assert (sampled.temperature, sampled.max_tokens, sampled.top_p, sampled.top_k) == (
        0.5,
        9,
        0.25,
        3,
    )
    assert (sampled.presence_penalty, sampled.frequency_penalty) == (-1, 1)
    assert (request.priority, request.deadline_s) == ("batch", 60)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"messages": []}, 400, "messages is empty"),
        (said(model_key="none"), 404, "no model 'none' is served here"),
        (said("x" * 11), 413, "messages has 11 characters, beyond the limit of 10"),
        (said(config={"temperature": 11}), 400, "config.temperature must be at least 0.0"),
        (
            said(config={"temperature": 2.1}),
            400,
            "config.temperature must be at least 0.0 and at most 2.0",
        ),
        (said(config={"topP": 1.5}), 400, "config.topP must be at least 0.0 and at most 1.0"),
        (said(config={"presencePenalty": 3}), 400, "config.presencePenalty must be at least -2.0"),
        (said(config={"frequencyPenalty": -3}), 400, "config.frequencyPenalty must be at least"),
        (said(config={"maxTokens": 0}), 400, "config.maxTokens must be at least 1"),
        (said(config={"topNSigma": 101}), 400, "config.topNSigma must be at least -1.0"),
        (said(config={"topP": "x"}), 400, "config.topP: Expected `float | null`, got `str`"),
        (
            said(config={"maxTokens": 8, "max_tokens": 3}),
            400,
            "config.max_tokens is config.maxTokens, which is given too",
        ),
        (said(config=3), 400, "config: Expected `object | null`, got `int`"),
        (said(config={"structuralTag": {}}), 400, "config.structuralTag is not supported here"),
        (said(tools=[{}]), 400, "tools is not supported here"),
        ({"messages": [{"role": "cook", "content": ""}]}, 400, "messages[0].role: Invalid enum"),
        ({}, 400, "messages is missing"),
    ],
)
def test_refusals(body: object, status: int, detail: str) -> None:
    limits = WebLimits(max_prompt_chars=10)
    for path in ("/chat", "/chat/stream"):
        answer = answered("POST", path, body, limits=limits)
        assert answer.status == status
        assert list(answer.json) == ["detail"]
        assert str(answer.json["detail"]).startswith(detail)


@pytest.mark.parametrize(
    ("image", "detail"),
    [
        (PNG | {"data_base64": "%"}, "messages[0].images[0].data_base64 is no base64"),
        (PNG | {"data_base64": ""}, "messages[0].images[0].data_base64 is empty"),
        (PNG | {"mime_type": "image/gif"}, "messages[0].images[0].mime_type: Invalid enum"),
    ],
)
def test_pictures_that_are_none(image: object, detail: str) -> None:
    turn = {"role": "user", "content": "", "images": [image]}
    answer = answered("POST", "/chat", {"messages": [turn]})
    assert answer.status == 400
    assert str(answer.json["detail"]).startswith(detail)


def test_a_picture_may_come_as_a_data_url() -> None:
    service = FakeService()
    url = {"data_base64": f"data:image/png;base64,{PNG['data_base64']}", "mime_type": "image/png"}
    turn = {"role": "user", "content": "", "images": [url]}
    answered("POST", "/chat", {"messages": [turn]}, service=service)
    task = service.requests[0].task
    assert isinstance(task, Chat)
    assert task.messages[0].media[0].data == b"pixels"


def test_fields_of_clients_own_are_left_out_and_told() -> None:
    body = said(session="s", user="u", config={"contextOverflowPolicy": "x"})
    answer = answered("POST", "/chat", body)
    assert answer.status == 200
    assert answer.headers["x-ignored-fields"] == "session, config.contextOverflowPolicy"


class Nothing(FakeService):
    async def models(self) -> tuple[ModelInfo, ...]:
        made = {"kind": "causal-lm", "created": 0}
        return (ModelInfo(name="m", state=ModelState.FAILED, **made),)  # type: ignore[arg-type]


class OnlyVectors(FakeService):
    async def models(self) -> tuple[ModelInfo, ...]:
        made = {"kind": "encoder", "created": 0, "tasks": ("embed",)}
        return (ModelInfo(name="m", state=ModelState.READY, **made),)  # type: ignore[arg-type]


@pytest.mark.parametrize("service", [Nothing(), OnlyVectors()])
def test_no_model_loaded(service: FakeService) -> None:
    for path in ("/chat", "/chat/regular/stream"):
        answer = answered("POST", path, said(), service=service)
        assert (answer.status, answer.body) == (
            503,
            b'{"detail":"Chat service unavailable: No model loaded"}',
        )
        assert answer.headers["x-should-retry"] == "true"


def test_the_default_models_are_the_settings() -> None:
    settings = DoorSettings(regular_model="absent", vision_model="blind")
    for path, named in (("/chat/regular", "absent"), ("/chat/vision", "blind")):
        answer = answered("POST", path, said(), settings=settings)
        assert (answer.status, answer.json["detail"]) == (404, f"no model {named!r} is served here")
        assert answered("POST", path, said(model_key=MODEL), settings=settings).status == 200
    empty = answered("POST", "/chat/vision", {"messages": []})
    assert (empty.status, empty.json["detail"]) == (400, "messages is empty")
    settings = DoorSettings(regular_model=MODEL)
    assert answered("POST", "/chat/vision", said(), settings=settings).json["model"] == MODEL
    assert answered("POST", "/chat/vision", said()).json["model"] == MODEL


def test_models_are_loaded_and_unloaded() -> None:
    service = FakeService(loaded=False)
    assert answered("GET", "/models", service=service).json == {"models": []}
    asked = {"model_key": MODEL, "exclusive": True}
    answer = answered("POST", "/models/load", asked, service=service)
    assert answer.json == {"loaded": True, "model_key": MODEL, "status": "loaded"}
    assert service.wishes == [LoadWish(model=MODEL, exclusive=True)]
    models: Any = answered("GET", "/models", service=service).json["models"]
    assert [(one["model_key"], one["loaded"]) for one in models] == [(MODEL, True)]
    for asked in ({"model_key": MODEL}, {"unload_all": True}):
        service.loaded = True
        answer = answered("POST", "/models/unload", asked, service=service)
        assert answer.json == {"unloaded": True, "models": [MODEL]}
        assert not service.loaded


class Full(FakeService):
    async def load(self, wish: LoadWish) -> Any:
        raise InsufficientMemory("it takes 9 GiB")


@pytest.mark.parametrize(
    ("service", "name", "why"),
    [(FakeService(), "none", "Model not found"), (Full(), MODEL, "it takes 9 GiB")],
)
def test_a_load_that_fails(service: FakeService, name: str, why: str) -> None:
    answer = answered("POST", "/models/load", {"model_key": name}, service=service)
    assert answer.status == 200
    assert (answer.json["loaded"], answer.json["error"]) == (False, f"Failed to load model: {why}")


def test_an_unload_that_cannot_be() -> None:
    answer = answered("POST", "/models/unload", {"model_key": "none"})
    assert answer.json == {"unloaded": False, "error": "Failed to unload model: Model not found"}
    for asked in ({}, {"model_key": MODEL, "unload_all": True}):
        answer = answered("POST", "/models/unload", asked)
        assert (answer.status, list(answer.json)) == (400, ["detail"])


def test_help_tells_every_route_with_examples_that_work() -> None:
    told = {(method, path) for method, path, _, _ in ENDPOINTS}
    assert told == {("GET", "/health")} | {(r.method, r.path) for r in doors.chat.DOOR.routes}
    endpoints: Any = answered("GET", "/help").json["endpoints"]
    service = FakeService(aliases={"smollm2-135m-instruct"})
    for one in endpoints:
        if "vision" in one["path"] or one["path"].startswith("/models/load"):
            continue
        answer = answered(one["method"], one["path"], one["example"], service=service)
        assert answer.status == 200, one


@pytest.mark.parametrize("path", ["/chat/none", "/models/none", "/help/none"])
def test_what_is_no_route_is_told_in_its_shape(path: str) -> None:
    answer = answered("GET", path)
    assert (answer.status, list(answer.json)) == (404, ["detail"])


def test_it_has_probes_at_an_address_of_its_own() -> None:
    for path in ("/health", "/live"):
        assert answered("GET", path, through=(doors.chat.DOOR,)).status == 200
    assert answered("GET", "/metrics", through=(doors.chat.DOOR,)).status == 404


def test_a_client_that_is_killed_in_mid_stream_cancels_its_request() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", "/chat/stream", said())
        ticket = await service.ticket()
        ticket.start()
        ticket.say("a")
        assert (await connection.head())[0] == 200
        assert await connection.chunk() == b'{"type":"fragment","content":"a"}\n'
        connection.abort()
        await until(lambda: ticket.cancelled)

    served(test, service)


def test_what_breaks_in_mid_stream_is_the_last_line() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", "/chat/stream", said())
        ticket = await service.ticket()
        ticket.start()
        assert (await connection.head())[0] == 200
        ticket.refuse(EngineFailure("broke"))
        assert await connection.chunk() == b'{"type":"error","detail":"broke"}\n'
        assert await connection.chunk() == b""
        await connection.close()

    served(test, service)
