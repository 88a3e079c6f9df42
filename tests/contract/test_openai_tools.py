"""Tools and reasoning with the official `openai` client: its tool loop, and its stream helper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

from nsedge.api import Chat, Delta, ReasoningDelta, Role, ToolCallDelta
from tests.contract.test_openai_client import shim_in_a_thread
from tests.fakes import MODEL, FakeService

QUESTION = "When does the sun shine in Oslo and Rome?"


class Sun(BaseModel):
    """When the sun shines."""

    city: str


def call(index: int, seq: int, arguments: str, **named: str) -> ToolCallDelta:
    return ToolCallDelta(
        request_id="",
        seq=seq,
        index=index,
        call_id=named.get("call_id"),
        name=named.get("name"),
        arguments=arguments,
        token_ids=(seq,),
    )


CALLS = (
    ReasoningDelta(request_id="", seq=0, text="Two cities.", token_ids=(0,)),
    call(0, 1, "", call_id="call_1", name="Sun"),
    call(0, 2, '{"city": '),
    call(0, 3, '"Oslo"}'),
    call(1, 4, "", call_id="call_2", name="Sun"),
    call(1, 5, '{"city": "Rome"}'),
)
ANSWER = (Delta(request_id="", seq=0, text="From 6 on.", token_ids=(1, 2)),)
TOOLS: Any = [pydantic_function_tool(Sun)]
ASKED: Any = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def service() -> FakeService:
    return FakeService(shows={QUESTION: CALLS, "6 Rome": ANSWER})


@pytest.fixture(scope="module")
def client(service: FakeService) -> Iterator[OpenAI]:
    with (
        shim_in_a_thread(service) as shim,
        OpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def test_the_tool_loop(client: OpenAI, service: FakeService) -> None:
    turns: Any = list(ASKED)
    first = client.chat.completions.create(model=MODEL, messages=turns, tools=TOOLS)
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.reasoning_content == "Two cities."  # type: ignore[attr-defined]
    turns.append(choice.message)
    for called in choice.message.tool_calls or ():
        assert called.type == "function"
        city = json.loads(called.function.arguments)["city"]
        turns.append({"role": "tool", "tool_call_id": called.id, "content": f"6 {city}"})
    last = client.chat.completions.create(model=MODEL, messages=turns, tools=TOOLS)
    assert last.choices[0].message.content == "From 6 on."
    assert last.choices[0].finish_reason == "stop"
    task = service.requests[-1].task
    assert isinstance(task, Chat)
    assert [turn.role for turn in task.messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.TOOL,
    ]
    assert [one.arguments for one in task.messages[1].tool_calls] == [
        '{"city": "Oslo"}',
        '{"city": "Rome"}',
    ]
    assert task.messages[1].reasoning == "Two cities."
    assert [turn.tool_call_id for turn in task.messages[2:]] == ["call_1", "call_2"]
    assert task.tools[0].strict
    assert task.tools[0].function["description"] == "When the sun shines."


def test_the_clients_own_parser(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(model=MODEL, messages=ASKED, tools=TOOLS)
    found = [one.function.parsed_arguments for one in parsed.choices[0].message.tool_calls or ()]
    assert found == [Sun(city="Oslo"), Sun(city="Rome")]


def test_a_stream_of_calls(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=TOOLS, stream=True)
    )
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thought == "Two cities."
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    named = [(p.index, p.id, p.type, p.function and p.function.name) for p in pieces if p.id]
    assert named == [(0, "call_1", "function", "Sun"), (1, "call_2", "function", "Sun")]
    for index, wanted in ((0, '{"city": "Oslo"}'), (1, '{"city": "Rome"}')):
        told = [p.function.arguments for p in pieces if p.index == index and p.function]
        assert "".join(one or "" for one in told) == wanted
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_clients_own_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=ASKED, tools=TOOLS) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [event.parsed_arguments for event in done] == [Sun(city="Oslo"), Sun(city="Rome")]
    assert final.choices[0].finish_reason == "tool_calls"
    assert len(final.choices[0].message.tool_calls or ()) == 2


def test_choices_and_prefill_reach_the_core(client: OpenAI, service: FakeService) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[*ASKED, {"role": "assistant", "content": "one two"}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "Sun"}},
        parallel_tool_calls=False,
        extra_body={"continue_final_message": True, "chat_template_kwargs": {"depth": 1}},
    )
    task = service.requests[-1].task
    assert isinstance(task, Chat)
    assert (task.tool_choice, task.tool_name) == ("required", "Sun")
    assert not task.parallel_tool_calls
    assert task.continue_final_message
    assert task.template_arguments == {"depth": 1}
