"""The Anthropic door over a real loopback socket."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Constraint,
    Media,
    MediaPart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import Connection, PuppetService, Shim, answered, ask, served

HI = [{"role": "user", "content": "a b"}]
HELLO = {"model": MODEL, "max_tokens": 10, "messages": HI}
EMPTY: dict[str, Any] = {"role": "user", "content": []}
CALL = {"type": "tool_use", "id": "c0", "name": "look"}
PATH = "/v1/messages"


def test_in_one_piece() -> None:
    answer = answered("POST", PATH, HELLO, x_request_id="mine")
    told: Any = answer.json
    assert told["content"] == [{"type": "text", "text": "a b"}]
    assert (told["type"], told["role"], told["model"]) == ("message", "assistant", MODEL)
    assert told["stop_reason"] == "end_turn"
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == "mine"


def test_as_a_stream() -> None:
    answer = answered("POST", f"{PATH}?beta=true", {**HELLO, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["request-id"]
    names = [line for line in answer.body.decode().splitlines() if line.startswith("event: ")]
    assert names == [
        "event: message_start",
        "event: content_block_start",
        "event: content_block_delta",
        "event: content_block_delta",
        "event: content_block_stop",
        "event: message_delta",
        "event: message_stop",
    ]


def asked(**body: Any) -> Any:
    """The task that a body became."""
    service = FakeService()
    answer = answered("POST", PATH, {**HELLO, **body}, service=service)
    assert answer.status == 200, answer.body
    return service.requests[-1].task


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_what_a_conversation_becomes() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b"), text("c")]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, text("d")]},
        {"role": "user", "content": "e"},
    ]
    for system in ("s1\ns2", [text("s1"), text("s2")]):
        assert asked(messages=turns, system=system).messages == (
            Message(role=Role.SYSTEM, content="s1\ns2"),
            Message(role=Role.USER, content="a\nb\nc"),
            Message(role=Role.ASSISTANT, content="d", reasoning="hm"),
            Message(role=Role.USER, content="e"),
        )


def test_pictures_stay_in_their_place() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": b64encode(b"png").decode()}
    content = [{"type": "image", "source": source}, text("what?")]
    (turn,) = asked(messages=[{"role": "user", "content": content}]).messages
    assert turn.content == (
        MediaPart(media=Media(type="image/png", data=b"png")),
        TextPart(text="what?"),
    )


def test_sampling() -> None:
    sampling = asked(
        temperature=0.5, top_k=3, top_p=0.9, stop_sequences=["x"], max_tokens=7
    ).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 3, 0.9)
    assert (sampling.stop, sampling.max_tokens, sampling.clip_max_tokens) == (("x",), 7, True)


SCHEMA = {"type": "object", "properties": {"at": {"type": "integer"}}}
LOOK = {"name": "look", "description": "d", "input_schema": SCHEMA}


@pytest.mark.parametrize(
    ("choice", "wanted", "name", "parallel"),
    [
        (None, ToolChoice.AUTO, None, None),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice.AUTO, None, False),
        ({"type": "any"}, ToolChoice.REQUIRED, None, None),
        ({"type": "tool", "name": "look"}, ToolChoice.REQUIRED, "look", None),
        ({"type": "none"}, ToolChoice.NONE, None, None),
    ],
)
def test_tools_and_the_choice_of_them(
    choice: object, wanted: ToolChoice, name: str | None, parallel: bool | None
) -> None:
    task = asked(tools=[LOOK, {"name": "go", "type": "custom"}], tool_choice=choice)
    assert task.tools == (
        Tool(function={"name": "look", "description": "d", "parameters": SCHEMA}),
        Tool(function={"name": "go"}),
    )
    assert (task.tool_choice, task.tool_name, task.parallel_tool_calls) == (wanted, name, parallel)


def test_calls_and_their_results_in_a_conversation() -> None:
    uses = [
        {"type": "tool_use", "id": "c0", "name": "look", "input": {"at": 1}},
        {"type": "tool_use", "id": "c1", "name": "go"},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "c0", "content": "seen"},
        {"type": "tool_result", "tool_use_id": "c1", "content": [text("x"), text("y")]},
        text("and now?"),
    ]
    turns = [
        *HI,
        {"role": "assistant", "content": [text("let me"), *uses]},
        {"role": "user", "content": results},
    ]
    _, said, first, second, asking = asked(messages=turns, tools=[LOOK]).messages
    assert said.content == "let me"
    assert said.tool_calls == (
        ToolCall(id="c0", name="look", arguments='{"at":1}'),
        ToolCall(id="c1", name="go", arguments="{}"),
    )
    assert (first.role, first.tool_call_id, first.name) == (Role.TOOL, "c0", "look")
    assert (second.tool_call_id, second.content) == ("c1", "x\ny")
    assert (asking.role, asking.content) == (Role.USER, "and now?")


def test_a_last_message_of_the_assistants_is_gone_on_with() -> None:
    task = asked(messages=[*HI, {"role": "assistant", "content": "It is"}])
    assert task.continue_final_message
    assert not asked().continue_final_message


@pytest.mark.parametrize(
    ("thinking", "arguments"),
    [
        (None, {}),
        ({"type": "adaptive"}, {}),
        ({"type": "disabled"}, {"enable_thinking": False}),
        ({"type": "enabled"}, {"enable_thinking": True}),
    ],
)
def test_whether_to_think(thinking: object, arguments: dict[str, Any]) -> None:
    assert asked(thinking=thinking).template_arguments == arguments


FORMAT = {"type": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize("body", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
def test_what_the_answer_must_look_like(body: dict[str, Any]) -> None:
    held = asked(**body).constraint
    assert held == Constraint.json_schema(msgspec.json.encode(SCHEMA).decode())
    assert asked(output_config={"effort": "low"}).reasoning_effort == "low"


def test_what_thoughts_may_cost_is_left_out_and_told() -> None:
    body = {**HELLO, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert answered("POST", PATH, body).headers["x-ignored-fields"] == "thinking.budget_tokens"


BAD = "invalid_request_error"
IMAGE_AT_A_URL = {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}


@pytest.mark.parametrize(
    ("body", "status", "kind", "told"),
    [
        ({"model": "none"}, 404, "not_found_error", "no model 'none'"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens: Expected `int`"),
        ({"messages": []}, 400, "invalid_request_error", "at least one message"),
        ({"messages": [EMPTY]}, 400, BAD, "messages.0.content is empty"),
        (
            {"messages": [*HI, {"role": "assistant", "content": "a"}, EMPTY]},
            400,
            BAD,
            "messages.2.content is empty",
        ),
        ({"messages": [{"role": "assistant", "content": []}]}, 400, BAD, "nothing is said"),
        ({"messages": [{"role": "x", "content": ""}]}, 400, "invalid_request_error", "messages.0"),
        (
            {"messages": [*HI, {"role": "assistant", "content": [CALL]}]},
            400,
            "invalid_request_error",
            "messages: the last is the assistant's",
        ),
        (
            {"messages": [{"role": "user", "content": [IMAGE_AT_A_URL]}]},
            400,
            "invalid_request_error",
            "messages.0.content.0: nothing is fetched from elsewhere",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
            400,
            "invalid_request_error",
            "blocks of type 'document' are not supported",
        ),
        ({"system": [{"type": "image"}]}, 400, "invalid_request_error", "system.0: blocks of"),
        ({"tools": [{"name": "f", "type": "bash_20250124"}]}, 400, BAD, "no 'bash_20250124' here"),
        ({"tools": [{"name": "f g"}]}, 400, BAD, "tools[0].function.name must be"),
        ({"tool_choice": {"type": "any"}}, 400, BAD, "tool_choice requires a tool"),
        ({"tool_choice": {"type": "x"}}, 400, BAD, "tool_choice.type must be one of"),
        ({"tool_choice": {"type": "tool"}}, 400, BAD, "tool_choice.name is missing"),
        ({"thinking": {"type": "x"}}, 400, BAD, "thinking.type must be"),
        ({"output_config": {"format": {"type": "x"}}}, 400, BAD, "output_config.format must be of"),
        ({"output_config": {"warmth": 1}}, 400, BAD, "warmth"),
        ({"output_format": FORMAT, "output_config": {"format": FORMAT}}, 400, BAD, "are the same"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            400,
            BAD,
            "messages.0.content.0.tool_use_id: no tool_use before it",
        ),
        (
            {"messages": [*HI, {"role": "assistant", "content": [{"type": "tool_use"}]}]},
            400,
            BAD,
            "messages.1.content.0: tool_use wants an id and a name",
        ),
        ({"warmth": 1}, 400, "invalid_request_error", "'warmth' is not a field"),
        ({"temperature": 99}, 400, "invalid_request_error", "temperature must be"),
        ({"stop_sequences": [""]}, 400, "invalid_request_error", "a stop string's length"),
        ({"messages": [{"role": "user", "content": "x" * 200}]}, 413, "request_too_large", "200"),
    ],
)
def test_errors(body: dict[str, Any], status: int, kind: str, told: str) -> None:
    answer = answered("POST", PATH, {**HELLO, **body}, limits=WebLimits(max_prompt_chars=100))
    error: Any = answer.json["error"]
    assert (answer.status, answer.json["type"], error["type"]) == (status, "error", kind)
    assert told in error["message"]
    assert answer.json["request_id"] == answer.headers["request-id"]


def test_what_asks_for_nothing_is_left_out() -> None:
    asked(
        metadata={"user_id": "u"},
        tools=[],
        output_config={"effort": "high"},
        service_tier="auto",
    )


def test_batches_are_none_of_this_door() -> None:
    answer = answered("POST", f"{PATH}/batches", {})
    error: Any = answer.json["error"]
    assert (answer.status, error["type"]) == (404, "not_found_error")


def test_another_version_of_the_api_is_refused() -> None:
    for version in ("2023-06-01", "2026-10-21"):
        assert answered("POST", PATH, HELLO, anthropic_version=version).status == 200
    for version in ("2023-01-01", "latest"):
        old = answered("POST", PATH, HELLO, anthropic_version=version)
        assert old.status == 400
        assert version in old.body.decode()


def test_models_for_its_clients_and_for_others() -> None:
    ours: Any = answered("GET", "/v1/models", anthropic_version="2023-06-01").json
    assert (ours["first_id"], ours["last_id"], ours["has_more"]) == (MODEL, MODEL, False)
    assert ours["data"][0]["created_at"] == "2023-11-14T22:13:20Z"
    openais: Any = answered("GET", "/v1/models").json
    assert openais["object"] == "list"
    one: Any = answered("GET", f"/v1/models/{MODEL}", anthropic_version="2023-06-01").json
    assert (one["type"], one["id"]) == ("model", MODEL)
    missing = answered("GET", "/v1/models/none", anthropic_version="2023-06-01")
    assert missing.status == 404
    assert missing.json["type"] == "error"


def test_a_key_as_its_clients_send_it(tmp_path: Path) -> None:
    key = ApiKey(name="k", sha256=keyring.digest_of("k"), scopes=(Scope.INFER,))
    keyring.write(tmp_path / "keys.json", KeyRing(api=(key,)))
    keys = WatchedFile(tmp_path / "keys.json", keyring.read)
    seen: list[tuple[int, Any]] = []

    async def test(shim: Shim) -> None:
        for headers in (
            {"x_api_key": "k"},
            {"x_api_key": "wrong"},
            {},
            {"authorization": "Bearer k", "x_api_key": "wrong"},
            {"authorization": "Bearer wrong", "x_api_key": "k"},
        ):
            answer = await ask(shim.port, "POST", PATH, HELLO, **headers)
            error: Any = answer.json.get("error", {})
            seen.append((answer.status, error.get("type")))

    served(test, keys=keys)
    wrong = (401, "authentication_error")
    assert seen == [(200, None), wrong, wrong, (200, None), wrong]


def test_a_silence_before_the_first_event_is_a_ping() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", PATH, {**HELLO, "stream": True})
        ticket = await service.ticket()
        assert (await connection.head())[0] == 200
        assert await connection.chunk() == b'event: ping\ndata: {"type":"ping"}\n\n'
        ticket.finish()
        await connection.close()

    served(test, service, WebLimits(keepalive_s=0.01))


def test_tokens_are_counted() -> None:
    body = {"model": MODEL, "messages": HI, "system": "s", "max_tokens": 1}
    path = f"{PATH}/count_tokens"
    assert answered("POST", path, body).json == {"input_tokens": 5}
    assert answered("POST", path, {**body, "model": "none"}).status == 404
    assert answered("POST", path, {**body, "messages": []}).status == 400
