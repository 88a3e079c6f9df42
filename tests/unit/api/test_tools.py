"""Chats with tools that cannot be are refused, by the name of what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nsedge.api import Chat, Message, Role, Tool, ToolCall, ToolChoice
from nsedge.api.tools import MAX_DEPTH, MAX_TOOLS
from nsedge.errors import InvalidParameter

USER = Message(role=Role.USER, content="hi")
SUN = Tool(function={"name": "sun"})
CHAT = Chat(messages=(USER,), tools=(SUN,))


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


def function(**fields: Any) -> tuple[Tool, ...]:
    return (Tool(function={"name": "sun", **fields}),)


@pytest.mark.parametrize(
    ("fields", "param", "what"),
    [
        ({"tools": function(name="a b")}, "tools", r"tools\[0\].function.name must be"),
        ({"tools": (Tool(function={}),)}, "tools", "name must be"),
        ({"tools": function(name="a" * 129)}, "tools", "name must be"),
        ({"tools": (SUN, SUN)}, "tools", "another tool's"),
        ({"tools": function(description=3)}, "tools", "description must be a text"),
        ({"tools": function(parameters=[])}, "tools", None),
        ({"tools": function(parameters=[1])}, "tools", "must be a JSON schema"),
        ({"tools": function(parameters=False)}, "tools", "must be a JSON schema"),
        ({"tools": function(description=0)}, "tools", "description must be a text"),
        ({"tools": function(parameters={"a": b"x"})}, "tools", "bytes, which is no JSON"),
        ({"tools": function(parameters={1: 2})}, "tools", "a key that is no text"),
        ({"tools": function(parameters=nested(MAX_DEPTH))}, "tools", "nests deeper"),
        ({"tools": function(parameters={"maximum": 2**64 - 1})}, "tools", None),
        ({"tools": function(parameters={"maximum": 2**64})}, "tools", "integer beyond 64 bits"),
        ({"documents": ({"at": -(2**63) - 1},)}, "documents", "integer beyond 64 bits"),
        ({"tools": (SUN,) * (MAX_TOOLS + 1)}, "tools", "beyond 256"),
        ({"documents": ({"a": {1, 2}},)}, "documents", "set, which is no JSON"),
        ({"template_arguments": nested(MAX_DEPTH)}, "template_arguments", "nests deeper"),
        ({"tools": (), "tool_choice": ToolChoice.REQUIRED}, "tool_choice", "there are none"),
        ({"tool_name": "sun"}, "tool_choice", "does not require it"),
        (
            {"tool_choice": ToolChoice.REQUIRED, "tool_name": "rain"},
            "tool_choice",
            "none of the tools",
        ),
        ({"continue_final_message": True}, "continue_final_message", "the assistant's"),
        ({"messages": (replace(USER, tool_call_id="c"),)}, "messages", "only a tool answers"),
        ({"messages": (replace(USER, reasoning="hm"),)}, "messages", "only the assistant"),
        (
            {"messages": (replace(USER, tool_calls=(ToolCall(id="c", name="a", arguments=""),)),)},
            "messages",
            "only the assistant",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], param: str, what: str | None) -> None:
    task = replace(CHAT, **fields)
    if what is None:  # as good as none
        task.check()
        return
    with pytest.raises(InvalidParameter, match=what) as caught:
        task.check()
    assert caught.value.param == param


def test_what_can_be_is_taken() -> None:
    parameters = {"type": "object", "properties": {"a": {"enum": [1, 2.5, None, True, "x"]}}}
    task = replace(
        CHAT,
        tools=(SUN, Tool(function={"name": "a.b/c:d-e_1", "parameters": parameters}, strict=True)),
        tool_choice=ToolChoice.REQUIRED,
        tool_name="a.b/c:d-e_1",
        documents=({"title": "t"},),
    )
    task.check()
    assert task.tools[0].parameters == {"type": "object", "properties": {}}
    assert replace(task, tool_choice=ToolChoice.NONE).usable_tools == ()


@pytest.mark.parametrize(
    ("fields", "one"),
    [
        ({}, False),
        ({"parallel_tool_calls": False}, True),
        ({"tool_choice": ToolChoice.REQUIRED}, True),
        ({"tool_choice": ToolChoice.REQUIRED, "parallel_tool_calls": True}, False),
        (
            {
                "tool_choice": ToolChoice.REQUIRED,
                "tool_name": "sun",
                "parallel_tool_calls": True,
            },
            True,
        ),
    ],
)
def test_the_first_call_may_be_the_last(fields: dict[str, Any], one: bool) -> None:
    assert replace(CHAT, **fields).has_one_call is one
