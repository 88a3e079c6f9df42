"""The four shapes, found out or forced, and the reasons why a row is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.finetune.examples import Turn
from exporters.finetune.shapes import (
    ASSISTANT,
    MAX_TURNS,
    BadRow,
    Conversation,
    Shape,
    conversation,
    shape_of,
)
from nsedge.api import Chat, Message, Role, TextPart
from nsedge.web.bodies import decode
from nsedge.web.doors.openai.bodies import ChatBody
from nsedge.web.doors.openai.requests import chat_requests
from nsedge.web.limits import WebLimits

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SHORT = (Turn("user", "q"), Turn("assistant", "a"))


def read(row: object, shape: Shape = Shape.AUTO, system: str | None = None) -> Conversation:
    return conversation(row, shape, system=system)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, Shape.ALPACA),
        ({"instruction": "q", "input": None, "output": "a", "id": 7}, Shape.ALPACA),
        ({"instruction": "q", "response": "a"}, Shape.ALPACA),
        ({"prompt": "q", "completion": "a"}, Shape.PROMPT),
        ({"prompt": "q", "response": "a"}, Shape.PROMPT),
        ({"messages": [Q, A]}, Shape.MESSAGES),
        ({"messages": json.dumps([Q, A])}, Shape.MESSAGES),
        ({"conversations": [Q, A]}, Shape.MESSAGES),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, A]},
            Shape.MESSAGES,
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            Shape.SHAREGPT,
        ),
    ],
)
def test_each_shape_is_known_by_its_keys(row: dict[str, Any], shape: Shape) -> None:
    assert shape_of(row) is shape
    assert read(row).turns == SHORT
    assert read(row, shape).turns == SHORT


def test_input_goes_below_the_instruction_and_history_before_it() -> None:
    row = {
        "instruction": "Add.",
        "input": "1 + 1",
        "output": "2",
        "system": "Be brief.",
        "history": [["Hello", "Hi"]],
    }
    assert read(row).turns == (
        Turn("system", "Be brief."),
        Turn("user", "Hello"),
        Turn("assistant", "Hi"),
        Turn("user", "Add.\n\n1 + 1"),
        Turn("assistant", "2"),
    )


def test_a_system_turn_is_added_only_where_there_is_none() -> None:
    own = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    assert read(own, system="S").turns == (Turn("system", "S"), *SHORT)
    assert read({**own, "system": "own"}, system="S").turns[0] == Turn("system", "own")
    developer = {"messages": [{"role": "developer", "content": "own"}, Q, A]}
    assert read(developer, system="S").turns == (Turn("system", "own"), *SHORT)


def test_text_parts_are_put_together_as_a_requests_are() -> None:
    parts = ["one\n", " two", "", "three"]
    asked = {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}
    found = read({"messages": [asked, A]}).turns[0].content
    assert found == "one\n\n two\n\nthree"
    assert found == Message(role=Role.USER, content=tuple(TextPart(text=p) for p in parts)).text
    body = decode(json.dumps({"model": "m", "messages": [asked]}).encode(), ChatBody)
    (request,) = chat_requests(body, "r", WebLimits())
    assert isinstance(request.task, Chat)
    assert request.task.messages[0].text == found


def test_weight_0_mutes_a_turn_wherever_the_system_turn_moves_it() -> None:
    row = {"messages": [Q, {**A, "weight": 0}, Q, A]}
    assert read(row).muted == {1}
    moved = read(row, system="S")
    assert moved.muted == {2}
    assert moved.turns[2].role == ASSISTANT


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "null, not an object"),
        ([Q, A], "a list, not an object"),
        (True, "true or false, not an object"),
        ({}, "no known shape (its keys: none)"),
        ({"text": "q"}, "no known shape (its keys: text)"),
        ({"instruction": "q"}, "no output"),
        ({"instruction": " ", "output": "a"}, "instruction is empty"),
        ({"instruction": "q", "output": 3}, "output is a number, not a text"),
        ({"instruction": "q", "output": "a", "history": [["b"]]}, "history is no list of pairs"),
        ({"prompt": "q", "completion": ""}, "completion is empty"),
        ({"prompt": [Q], "completion": [A]}, "prompt is a list, not a text"),
        ({"messages": []}, "messages is empty"),
        ({"messages": "[Q"}, "messages is a text, not a list"),
        ({"messages": [3]}, "turn 1 is a number, not an object"),
        ({"messages": [{"content": "q"}]}, "turn 1 has no role"),
        ({"messages": [Q, {"role": "tool", "content": "x"}]}, "turn 2: role 'tool' is not"),
        ({"messages": [Q, {**A, "tool_calls": [1]}]}, "turn 2 has tool_calls"),
        ({"messages": [Q, {"role": "assistant"}]}, "turn 2: content is null, not a text"),
        ({"messages": [Q, {**A, "content": [{"type": "image"}]}]}, "turn 2 has a part that is no"),
        ({"messages": [Q, {**A, "content": " "}]}, "turn 2: the assistant's words are empty"),
        ({"messages": [Q]}, "the assistant says nothing"),
        ({"messages": [A, Q]}, "the assistant speaks before any user"),
        ({"messages": [Q, {**A, "weight": 0}]}, "every turn of the assistant has weight 0"),
        ({"messages": [Q, A] * MAX_TURNS}, f"{2 * MAX_TURNS} turns; at most {MAX_TURNS}"),
    ],
)
def test_what_is_no_conversation_has_a_reason(row: object, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        read(row)
    assert reason in str(caught.value)


def test_a_forced_shape_takes_no_other() -> None:
    with pytest.raises(BadRow, match="no instruction"):
        read({"prompt": "q", "completion": "a"}, Shape.ALPACA)
    with pytest.raises(BadRow, match="turn 1 has no from"):
        read({"messages": [Q, A]}, Shape.SHAREGPT)


KEYS = st.sampled_from(
    (
        *("messages", "conversations", "from", "value", "role", "content", "system", "history"),
        *("instruction", "input", "output", "prompt", "completion", "weight", "tool_calls", "x"),
    )
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
LEAVES |= st.sampled_from(
    ["user", "assistant", "system", "human", "gpt", "[]", '[{"role":"user"}]']
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=16,
)


@settings(max_examples=300, deadline=None)
@given(row=JSON, shape=st.sampled_from(list(Shape)), system=st.none() | st.text(max_size=3))
def test_any_row_is_a_sound_conversation_or_bad(
    row: object, shape: Shape, system: str | None
) -> None:
    try:
        found = read(row, shape, system)
    except BadRow as error:
        found = Conversation((Turn(ASSISTANT, str(error)),))
    assert any(
        turn.role == ASSISTANT and turn.content.strip() and place not in found.muted
        for place, turn in enumerate(found.turns)
    )
    assert {turn.role for turn in found.turns} <= {"system", "user", "assistant"}
