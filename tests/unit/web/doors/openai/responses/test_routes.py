"""OpenAI's responses over a real loopback socket, and those that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nsedge.api import Constraint, Message, Role, Tool, ToolCall, ToolChoice
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.doors.openai.responses import store as storing
from nsedge.web.doors.openai.responses.store import Kept, Store
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeClock, FakeService
from tests.web_server import Shim, answered, ask, error_of, served

PATH = "/v1/responses"
HELLO = {"model": MODEL, "input": "a b"}


def asked(**body: Any) -> Any:
    """The task that a body became."""
    service = FakeService()
    answer = answered("POST", PATH, {**HELLO, **body}, service=service)
    assert answer.status == 200, answer.body
    return service.requests[-1].task


def test_in_one_piece_and_as_a_stream() -> None:
    told: Any = answered("POST", PATH, HELLO).json
    assert (told["object"], told["status"], told["model"]) == ("response", "completed", MODEL)
    assert told["output"][0]["content"][0]["text"] == "a b"
    assert told["id"].startswith("resp_")
    answer = answered("POST", PATH, {**HELLO, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"event: response.output_text.delta\n" in answer.body
    assert b"[DONE]" not in answer.body


def text(words: str, kind: str = "input_text") -> dict[str, str]:
    return {"type": kind, "text": words}


def test_items_become_a_conversation() -> None:
    items = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [text("a"), text("b")]},
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [],
            "content": [text("hm", "reasoning_text")],
        },
        {"type": "message", "role": "assistant", "content": [text("c", "output_text")]},
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "seen"},
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"role": "user", "content": "d"},
    ]
    call = ToolCall(id="1", name="look", arguments="{}")
    assert asked(input=items, instructions="i").messages == (
        Message(role=Role.SYSTEM, content="i"),
        Message(role=Role.SYSTEM, content="s"),
        Message(role=Role.USER, content="a\nb"),
        Message(role=Role.ASSISTANT, content="c", tool_calls=(call,), reasoning="hm"),
        Message(role=Role.TOOL, content="seen", tool_call_id="1", name="look"),
        Message(role=Role.USER, content="d"),
    )


FUNCTION = {
    "type": "function",
    "name": "look",
    "description": "d",
    "parameters": {"type": "object"},
}


@pytest.mark.parametrize(
    ("choice", "wanted", "name"),
    [
        (None, ToolChoice.AUTO, None),
        ("required", ToolChoice.REQUIRED, None),
        ({"type": "function", "name": "look"}, ToolChoice.REQUIRED, "look"),
    ],
)
def test_tools(choice: object, wanted: ToolChoice, name: str | None) -> None:
    task = asked(tools=[FUNCTION], tool_choice=choice)
    function = {key: FUNCTION[key] for key in ("name", "description", "parameters")}
    assert task.tools == (Tool(function=function),)
    assert (task.tool_choice, task.tool_name) == (wanted, name)


def test_what_else_is_asked_for() -> None:
    task = asked(
        max_output_tokens=5,
        temperature=0.5,
        top_k=3,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        truncation="disabled",
        background=False,
    )
    sampling = task.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k) == (5, 0.5, 3)
    assert sampling.logprobs == 2
    assert (task.reasoning_effort, task.template_arguments) == ("low", {})
    assert task.constraint == Constraint.json_schema('{"type":"object"}')
    assert asked(reasoning={"effort": "none"}).reasoning_effort == "none"
    assert asked(text={"format": {"type": "text"}}).constraint is None


@pytest.mark.parametrize(
    ("body", "status", "param", "told"),
    [
        (
            {"reasoning": {"effort": "hard"}},
            400,
            "reasoning.effort",
            "reasoning.effort must be one of none, ",
        ),
        ({"model": "none"}, 404, "model", "no model 'none'"),
        ({"input": ""}, 400, "input", "input is empty"),
        ({"input": [{"role": "robot", "content": ""}]}, 400, "input[0].role", "must be one of"),
        ({"input": [{"role": "user"}]}, 400, "input[0].content", "is missing"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            400,
            "input[0].content[0]",
            "are not supported here",
        ),
        ({"input": [{"type": "item_reference"}]}, 400, "input[0]", "'item_reference'"),
        ({"input": [{"type": "function_call"}]}, 400, "input[0]", "wants call_id"),
        ({"input": [{"type": "function_call_output"}]}, 400, "input[0].call_id", "is missing"),
        ({"input": "x" * 101}, 413, "input", "101 characters"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools[0]", "'web_search'"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "name must be"),
        ({"tool_choice": "any"}, 400, "tool_choice", "tool_choice must be"),
        ({"include": ["file_search_call.results"]}, 400, "include", "include can have"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "wants include"),
        ({"max_tokens": 2}, 400, "max_tokens", "is max_output_tokens here"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens", "max_output_tokens must be"),
        ({"text": {"format": {"type": "x"}}}, 400, "text.format", "must be of type"),
        ({"truncation": "auto"}, 400, "truncation", "not supported"),
        ({"background": True}, 400, "background", "not supported"),
        ({"previous_response_id": "resp_0"}, 400, "previous_response_id", "'resp_0' is kept here"),
        ({"warmth": 1}, 400, "warmth", "not a field"),
    ],
)
def test_refusals(body: dict[str, Any], status: int, param: str, told: str) -> None:
    limits = WebLimits(max_prompt_chars=100)
    answer = answered("POST", PATH, {**HELLO, **body}, limits=limits)
    error = error_of(answer)
    assert (answer.status, error["param"]) == (status, param)
    assert told in error["message"]


def test_a_conversation_goes_on_from_what_is_kept() -> None:
    service = FakeService()

    async def test(shim: Shim) -> None:
        async def say(**body: Any) -> Any:
            return (await ask(shim.port, "POST", PATH, {**HELLO, **body})).json

        first = await say(instructions="i")
        streamed = await ask(
            shim.port,
            "POST",
            PATH,
            {**HELLO, "input": "c", "previous_response_id": first["id"], "stream": True},
        )
        second = msgspec.json.decode(streamed.body.rpartition(b"data: ")[2])["response"]
        await say(input="d", previous_response_id=second["id"])
        assert [turn.content for turn in service.requests[-1].task.messages] == [  # type: ignore[union-attr]
            "a b",
            "a b",
            "c",
            "c",
            "d",
        ]
        path = f"{PATH}/{first['id']}"
        assert (await ask(shim.port, "GET", path)).json == first
        listed: Any = (await ask(shim.port, "GET", f"{path}/input_items")).json
        assert listed["data"][0]["content"] == [text("a b")]
        gone: Any = (await ask(shim.port, "DELETE", path)).json
        assert gone == {"id": first["id"], "object": "response", "deleted": True}
        for method in ("GET", "DELETE"):
            assert (await ask(shim.port, method, path)).status == 404
        unkept = await say(store=False)
        assert (await ask(shim.port, "GET", f"{PATH}/{unkept['id']}")).status == 404

    served(test, service)


def test_only_the_key_that_asked_finds_it(tmp_path: Path) -> None:
    keys = tuple(
        ApiKey(name=name, sha256=keyring.digest_of(name), scopes=(Scope.INFER, Scope.READ))
        for name in ("a", "b")
    )
    keyring.write(tmp_path / "keys.json", KeyRing(api=keys))
    watched = WatchedFile(tmp_path / "keys.json", keyring.read)

    async def test(shim: Shim) -> None:
        told: Any = (await ask(shim.port, "POST", PATH, HELLO, authorization="Bearer a")).json
        for key, status in (("a", 200), ("b", 404)):
            answer = await ask(
                shim.port, "GET", f"{PATH}/{told['id']}", authorization=f"Bearer {key}"
            )
            assert answer.status == status

    served(test, keys=watched)


def kept(label: str, since_s: float, words: str = "x") -> Kept:
    return Kept(
        caller="c",
        response={"id": label},
        items=[],
        messages=(Message(role=Role.USER, content=words),),
        since_s=since_s,
    )


def test_so_many_are_kept_and_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    store = Store(clock)
    for number in range(5):
        store.keep(kept(f"r{number}", clock()), most=3, for_s=10.0)
        clock.advance(1)
    assert len(store) == 3
    assert store.find("r1", "c", for_s=10.0) is None
    assert store.find("r2", "c", for_s=10.0) is not None
    assert store.find("r2", "other", for_s=10.0) is None
    clock.advance(8)
    assert store.find("r2", "c", for_s=10.0) is None
    assert store.find("r4", "c", for_s=10.0) is not None
    store.keep(kept("none", clock()), most=0, for_s=10.0)
    assert store.find("none", "c", for_s=10.0) is None
    monkeypatch.setattr(storing, "MAX_KEPT", 10)
    store.keep(kept("long", clock(), "x" * 11), most=3, for_s=10.0)
    assert (len(store), store.find("long", "c", for_s=10.0) is not None) == (1, True)


def test_there_are_no_moderations() -> None:
    answer = answered("POST", "/v1/moderations", {"input": "x"})
    assert answer.status == 404
    assert "no model here judges texts" in error_of(answer)["message"]
    assert msgspec.json.decode(answer.body)["error"]["code"] == "unknown_route"
