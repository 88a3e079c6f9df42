"""Tools, calls, prefills and what a template is told, as bodies of chats have them."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import Chat, Message, Role, Tool, ToolCall, ToolChoice
from tests.unit.web.doors.openai.asking import (
    CALL,
    NAMED,
    SUN,
    USER,
    allowed,
    chat,
    messages,
)


def test_tools_are_taken_over_as_they_are() -> None:
    strict = {**SUN, "function": {**SUN["function"], "name": "rain", "strict": True}}
    (request,) = chat(tools=[SUN, strict], parallel_tool_calls=False)
    task = request.task
    assert isinstance(task, Chat)
    assert task.tools[0] == Tool(function=SUN["function"])
    assert list(task.tools[0].function) == list(SUN["function"]), "in their order"
    assert task.tools[1] == Tool(function=SUN["function"] | {"name": "rain"}, strict=True)
    assert task.parallel_tool_calls is False
    assert task.has_one_call


@pytest.mark.parametrize(
    ("given", "choice", "name", "tools"),
    [
        (None, ToolChoice.AUTO, None, ["sun", "rain"]),
        ("auto", ToolChoice.AUTO, None, ["sun", "rain"]),
        ("none", ToolChoice.NONE, None, ["sun", "rain"]),
        ("required", ToolChoice.REQUIRED, None, ["sun", "rain"]),
        (NAMED, ToolChoice.REQUIRED, "sun", ["sun", "rain"]),
        (allowed("auto", "rain"), ToolChoice.AUTO, None, ["rain"]),
        (allowed("required", "sun"), ToolChoice.REQUIRED, None, ["sun"]),
    ],
)
def test_tool_choice(given: Any, choice: ToolChoice, name: str | None, tools: list[str]) -> None:
    rain = {"type": "function", "function": {"name": "rain"}}
    task = chat(tools=[SUN, rain], tool_choice=given)[0].task
    assert isinstance(task, Chat)
    assert (task.tool_choice, task.tool_name) == (choice, name)
    assert [tool.name for tool in task.tools] == tools


def test_calls_and_their_results_are_part_of_the_history() -> None:
    turns = [
        USER,
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "6"},
    ]
    assert messages(chat(messages=turns)[0])[1:] == (
        Message(
            role=Role.ASSISTANT,
            content="",
            reasoning="Hm.",
            tool_calls=(ToolCall(id="c1", name="sun", arguments="{}"),),
        ),
        Message(role=Role.TOOL, content="6", tool_call_id="c1"),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [USER, {"role": "assistant", "content": "x", "prefix": True}]},
        {"messages": [USER, {"role": "assistant", "content": "x", "partial": True}]},
        {
            "messages": [USER, {"role": "assistant", "content": "x"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
    ],
)
def test_the_last_message_may_be_continued(fields: dict[str, Any]) -> None:
    task = chat(**fields)[0].task
    assert isinstance(task, Chat)
    assert task.continue_final_message


def test_what_the_template_is_told() -> None:
    task = chat(
        documents=[{"title": "t", "text": "x"}],
        chat_template_kwargs={"depth": 3},
        enable_thinking=False,
        add_generation_prompt=False,
        reasoning_format="none",
    )[0].task
    assert isinstance(task, Chat)
    assert task.documents == ({"title": "t", "text": "x"},)
    assert task.template_arguments == {"depth": 3, "enable_thinking": False}
    assert not task.add_generation_prompt
    assert not task.split_reasoning
