"""Chats as llama-server's own tests ask for them, at the OpenAI door in front of the real daemon:
parts, streams, forms, tools, log-probabilities, templates, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.daemon import free_port
from tests.integration.test_access_real import up
from tests.integration.test_client_doors_real import asked, records
from tests.integration.test_engine_real import MODEL

pytestmark = pytest.mark.integration

CONTEXT = 1024
CHAT = "/v1/chat/completions"
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Book"},
    {"role": "user", "content": "What is the best book"},
]
DONE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "done",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"success": {"type": "boolean", "const": True}},
            "required": ["success"],
        },
    },
}
CODE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Runs code in an interpreter, and gives what it printed.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "maxLength": 60}},
            "required": ["code"],
        },
    },
}


@pytest.fixture(scope="module")
def port(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with up(
        tmp_path_factory.mktemp("llama-chat"),
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
        NSEDGE_ENGINE_SLOTS="4",
        NSEDGE_ENGINE_CONTEXT_TOKENS=str(CONTEXT),
    ):
        yield port


def body_of(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": TURNS, "temperature": 0, "max_tokens": 8} | fields


def said(port: int, **fields: Any) -> Any:
    answer = asked(port, CHAT, body_of(**fields))
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body)


def streamed(port: int, **fields: Any) -> list[Any]:
    answer = asked(port, CHAT, body_of(stream=True, **fields))
    assert answer.status == 200, answer.body
    assert answer.body.count(b"data: [DONE]") == 1
    return records(answer)


def refused(port: int, **fields: Any) -> Any:
    answer = asked(port, CHAT, body_of(**fields))
    assert answer.status == 400, answer.body
    return msgspec.json.decode(answer.body)["error"]


def test_an_answer_whole_and_streamed(port: int) -> None:
    whole = said(port)
    (choice,) = whole["choices"]
    assert whole["id"].startswith("chatcmpl-")
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "length")
    assert whole["usage"]["completion_tokens"] == 8
    first, *pieces, last, usage = streamed(port, stream_options={"include_usage": True})
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {one["id"] for one in (first, *pieces, last, usage)} == {first["id"]}
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert all(delta.keys() == {"content"} for delta in deltas)
    assert "".join(delta["content"] for delta in deltas) == choice["message"]["content"]
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    for name in ("prompt_tokens", "completion_tokens"):
        assert usage["usage"][name] == whole["usage"][name]


def test_parts_and_a_prefill(port: int) -> None:
    def shown(*turns: dict[str, Any], **more: Any) -> str:
        answer = asked(port, "/apply-template", {"messages": list(turns), **more})
        assert answer.status == 200, answer.body
        return str(answer.json["prompt"])

    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "the best book"}]
    system, user = TURNS
    asks = {"role": "user", "content": parts}
    whole = {"role": "user", "content": "What is\nthe best book"}
    assert shown(system, asks) == shown(system, whole)
    begun = {"role": "assistant", "content": [{"type": "text", "text": "Whill"}]}
    prompt = shown(system, user, begun, continue_final_message=True, add_generation_prompt=False)
    assert prompt == shown(system, user) + "Whill"
    answer = said(port, messages=[system, user, begun], continue_final_message=True)
    assert not answer["choices"][0]["message"]["content"].startswith("Whill")


def test_what_templates_are_told(port: int) -> None:
    def shown(**more: Any) -> str:
        answer = asked(port, "/apply-template", {"messages": TURNS, **more})
        assert answer.status == 200, answer.body
        return str(answer.json["prompt"])

    whole = shown()
    assert whole.endswith("<|im_start|>assistant\n")
    assert shown(add_generation_prompt=False) == whole.removesuffix("<|im_start|>assistant\n")
    assert shown(chat_template_kwargs={"nobody_reads_this": 1}) == whole
    assert shown(tools=[]) == whole
    assert '"name": "python"' in shown(tools=[CODE])
    assert shown(tools=[CODE], tool_choice="none") == whole


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"response_format": {"type": "json_object", "schema": {"const": "42"}}}, '"42"'),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"const": "oo"}},
                }
            },
            '"oo"',
        ),
        (
            {
                "response_format": {
                    "type": "json_object",
                    "schema": {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
                }
            },
            r"\[\s*(-?\d+\s*)?\]",
        ),
        ({"response_format": {"type": "json_object"}, "max_tokens": 20}, r"\{.*"),
        ({"response_format": {"type": "text"}}, ".*"),
        ({"json_schema": {"const": "42"}}, '"42"'),
        ({"grammar": 'root ::= "a"{5,5}'}, "a{5}"),
    ],
)
def test_a_form(port: int, form: dict[str, Any], fits: str) -> None:
    (choice,) = said(port, **{"max_tokens": 24} | form)["choices"]
    content = choice["message"]["content"]
    assert re.fullmatch(fits, content, re.DOTALL), content


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"type": "sound"}, "response_format.type"),
        ({"type": "json_object", "schema": 123}, "response_format"),
        ({"type": "json_object", "schema": {"type": 123}}, "response_format"),
        ({"type": "json_object", "schema": {"type": "hiccup"}}, "response_format"),
        ({"type": "json_schema"}, "response_format"),
    ],
)
def test_a_form_that_is_none(port: int, wanted: dict[str, Any], told: str) -> None:
    error = refused(port, response_format=wanted)
    assert told in error["message"]
    assert (error["param"] or "").startswith("response_format")
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "string",
        [],
        [123],
        [{}],
        [{"role": 123}],
        [{"role": "system", "content": 123}],
        [{"content": "hello"}],
        [{"role": "nobody", "content": "hello"}],
        [{"role": "system", "content": "test"}, {}],
        [{"role": "user", "content": [{"type": "sound"}]}],
    ],
)
def test_messages_that_are_none(port: int, messages: Any) -> None:
    error = refused(port, messages=messages)
    assert "messages" in error["message"] or (error["param"] or "").startswith("messages")


def test_log_probabilities_whole_and_streamed(port: int) -> None:
    wanted = {"logprobs": True, "top_logprobs": 10, "max_tokens": 6}
    (choice,) = said(port, **wanted)["choices"]
    told = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in told) == choice["message"]["content"]
    for token in told:
        assert token["logprob"] <= 0.0
        assert token["bytes"] is not None
        assert len(token["top_logprobs"]) == 10
        assert token["token"] == token["top_logprobs"][0]["token"]
    chunks = [chunk["choices"][0] for chunk in streamed(port, **wanted)]
    pieces = [token for one in chunks for token in (one["logprobs"] or {"content": ()})["content"]]
    assert pieces == told


def test_a_bias_against_words(port: int) -> None:
    words = ["the", "The", "to", "a", "an", "is", "was", "and", "you", "it", "book", "Book", "of"]
    text = "".join(f" {word} {word}" for word in words)
    ids: Any = asked(port, "/tokenize", {"content": text}).json["tokens"]
    answer = said(port, logit_bias={str(token): -100 for token in ids}, max_tokens=64)
    found = answer["choices"][0]["message"]["content"]
    assert found
    assert not [word for word in words if f" {word} " in found]


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_beyond_the_context(port: int, *, stream: bool) -> None:
    error = refused(port, messages=TURNS * 100, stream=stream)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert f"maximum context length is {CONTEXT} tokens" in error["message"]


def test_several_choices(port: int) -> None:
    choices = said(port, n=3, temperature=1.0, seed=1)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert {choice["finish_reason"] for choice in choices} == {"length"}
    assert len({choice["message"]["content"] for choice in choices}) > 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("tool", "argument"), [(DONE, "success"), (CODE, "code")])
@pytest.mark.parametrize("choice", ["required", "by name"])
def test_a_call_that_is_required(
    port: int, tool: dict[str, Any], argument: str, choice: str, *, stream: bool
) -> None:
    name = tool["function"]["name"]
    wanted: Any = (
        "required" if choice == "required" else {"type": "function", "function": {"name": name}}
    )
    fields = {
        "tools": [tool],
        "tool_choice": wanted,
        "parallel_tool_calls": False,
        "max_tokens": 200,
        "messages": [
            {"role": "system", "content": "You are a coding assistant."},
            {"role": "user", "content": "Write an example"},
        ],
    }
    if stream:
        chunks = [chunk["choices"][0] for chunk in streamed(port, **fields)]
        pieces = [piece for one in chunks for piece in one["delta"].get("tool_calls", ())]
        assert not any(one["delta"].get("content") for one in chunks)
        (called,) = (piece["function"]["name"] for piece in pieces if piece.get("id"))
        arguments = "".join(piece["function"].get("arguments", "") for piece in pieces)
        reason = chunks[-1]["finish_reason"]
    else:
        (whole,) = said(port, **fields)["choices"]
        (call,) = whole["message"]["tool_calls"]
        assert whole["message"]["content"] is None
        called, arguments = call["function"]["name"], call["function"]["arguments"]
        reason = whole["finish_reason"]
    assert (called, reason) == (name, "tool_calls")
    assert argument in json.loads(arguments)


@pytest.mark.parametrize(
    ("tools", "choice"), [([], None), ([CODE], "none"), ([DONE, CODE], "none")]
)
def test_no_call_where_none_may_come(port: int, tools: list[Any], choice: str | None) -> None:
    (answer,) = said(port, tools=tools, tool_choice=choice, max_tokens=40)["choices"]
    assert not answer["message"].get("tool_calls")
    assert answer["message"]["content"]


def test_tools_that_cannot_be_called_are_refused_by_name(port: int) -> None:
    for tools, choice, told in (
        ([{"type": "function"}], "auto", "tools[0]"),
        ([{"type": "function", "function": {"name": "a b"}}], "auto", "tools[0].function.name"),
        ([CODE, CODE], "auto", "another tool's"),
        ([CODE], {"type": "function", "function": {"name": "nobody"}}, "nobody"),
        ([], "required", "tool_choice"),
        ([CODE], "may be", "tool_choice"),
    ):
        error = refused(port, tools=tools, tool_choice=choice)
        assert told in error["message"], error
