"""Answers that are told apart: what their events are, and how they end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nsedge.api import (
    AnyDelta,
    Chat,
    Delta,
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    Tool,
    ToolCallDelta,
    ToolChoice,
)
from nsedge.runtime.text.answer.formats import HERMES, PARAMETERS, CallFormat, ThoughtMarks
from nsedge.runtime.text.answer.reader import AnswerForm
from nsedge.runtime.text.detokenizer import StopFinder, TextStream
from tests.unit.rig import Rig

PROMPT = tuple(range(1, 6))
FORM = AnswerForm(calls=HERMES, thoughts=ThoughtMarks("<think>", "</think>"))
THOUGHT = ["<think>", "Look", " it up.", "</think>", "\n\n"]
CALL = ["So: ", "<tool_call>", '{"name": "sun", "argu', 'ments": {"a"', ": 1}}", "</tool_call>"]


class Script:
    """Decodes the tokens that come to pieces that are given, whatever they are; then to dots."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.left = list(pieces)

    def push(self, token_id: int) -> str:
        return self.left.pop(0) if self.left else "."

    def flush(self) -> str:
        return ""


def run(
    pieces: Sequence[str],
    max_tokens: int,
    *,
    parallel: bool = True,
    min_tokens: int = 0,
    stop: tuple[str, ...] = (),
    choice: ToolChoice = ToolChoice.AUTO,
    form: CallFormat = HERMES,
) -> tuple[list[AnyDelta], Finished]:
    task = Chat(
        messages=(Message(role=Role.USER, content="hi"),),
        tools=(Tool(function={"name": "sun"}),),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        split_reasoning=True,
    )
    rig = Rig()
    rig.submit(
        "a",
        PROMPT,
        max_tokens,
        ignore_end=True,
        min_tokens=min_tokens,
        text=TextStream(Script(pieces), StopFinder(stop)),
        answer=replace(FORM, calls=form).reader(task, in_thought=lambda: False),
    )
    rig.run()
    *events, end = rig.events["a"]
    assert isinstance(end, Finished)
    return [event for event in events if isinstance(event, AnyDelta)], end


def test_each_part_is_an_event_of_its_kind() -> None:
    stop = ("END",)
    deltas, end = run([*THOUGHT, *CALL, "END"], 20, stop=stop)
    assert [event.seq for event in deltas] == list(range(len(deltas)))
    assert [event.text for event in deltas if isinstance(event, ReasoningDelta)] == [
        "Look",
        " it up.",
    ]
    assert "".join(event.text for event in deltas if isinstance(event, Delta)) == "So: "
    first, *more = [event for event in deltas if isinstance(event, ToolCallDelta)]
    assert (first.index, first.name, first.arguments) == (0, "sun", "")
    assert first.call_id is not None
    assert first.call_id.startswith("call_")
    assert "".join(event.arguments for event in more) == '{"a": 1}'
    assert {(event.call_id, event.name) for event in more} == {(None, None)}
    assert (end.reason, end.stop) == (FinishReason.TOOL_CALLS, "END")


def test_every_token_is_told_once() -> None:
    deltas, end = run([*THOUGHT, *CALL], 15)
    told = sum(len(event.token_ids) for event in deltas)
    assert told == end.usage.completion_tokens == 15
    assert end.reason is FinishReason.LENGTH


def test_what_was_held_back_is_text_in_the_end() -> None:
    deltas, end = run(["Yes <tool_", "call>", '{"name'], 3)
    assert "".join(event.text for event in deltas if isinstance(event, Delta)) == (
        'Yes <tool_call>{"name'
    )
    assert end.reason is FinishReason.LENGTH


@pytest.mark.parametrize(("min_tokens", "written"), [(0, 5), (9, 9)])
def test_one_call_is_the_end_where_one_is_wanted(min_tokens: int, written: int) -> None:
    deltas, end = run(CALL, 20, parallel=False, min_tokens=min_tokens)
    calls = [event for event in deltas if isinstance(event, ToolCallDelta)]
    assert "".join(event.arguments for event in calls) == '{"a": 1}'
    assert (end.reason, end.stop) == (FinishReason.TOOL_CALLS, None)
    assert end.usage.completion_tokens == written


PARAMETER_CALL = ["<tool_call>\n<function=sun>\n", "<parameter=a>\n", "Paris", "\n</parameter>\n"]


def arguments_of(deltas: Sequence[AnyDelta]) -> str:
    return "".join(event.arguments for event in deltas if isinstance(event, ToolCallDelta))


def text_of(deltas: Sequence[AnyDelta]) -> str:
    return "".join(event.text for event in deltas if isinstance(event, Delta))


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.REQUIRED])
@pytest.mark.parametrize(
    ("form", "pieces", "arguments"),
    [
        (HERMES, ['<tool_call>{"name": "sun", "arguments": {"a": ', '"b"', "X"], '{"a": "b"'),
        (HERMES, [*CALL, "<tool_call>", '{"name": "sun", "arguments": {', "X"], '{"a": 1}{'),
        (PARAMETERS, [*PARAMETER_CALL[:3], "X"], '{"a": "Paris'),
        (PARAMETERS, [*PARAMETER_CALL, "X"], '{"a": "Paris"'),
    ],
)
def test_a_stop_string_within_arguments_ends_as_stop(
    form: CallFormat, pieces: list[str], arguments: str, choice: ToolChoice
) -> None:
    deltas, end = run(pieces, 20, stop=("X",), form=form, choice=choice)
    assert arguments_of(deltas) == arguments
    assert (end.reason, end.stop) == (FinishReason.STOP, "X")
    deltas, end = run(pieces, len(pieces) - 1, form=form, choice=choice)
    assert arguments_of(deltas) == arguments
    assert end.reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("form", "pieces"),
    [
        (HERMES, [*CALL[:-1], "X"]),
        (HERMES, ['<tool_call>{"name": "sun", "arguments": {"a": 1}', "X"]),
        (HERMES, ['<tool_call>{"arguments": {"a": 1}, "name": "sun"}', "X"]),
        (HERMES, ['<tool_call>{"name": "sun"}', "X"]),
        (PARAMETERS, [*PARAMETER_CALL, "</function>", "X"]),
        (PARAMETERS, ["<tool_call>\n<function=sun>\n</function>", "X"]),
    ],
)
def test_a_stop_string_behind_whole_arguments_ends_as_tool_calls(
    form: CallFormat, pieces: list[str]
) -> None:
    deltas, end = run(pieces, 20, stop=("X",), form=form)
    json.loads(arguments_of(deltas))
    assert (end.reason, end.stop) == (FinishReason.TOOL_CALLS, "X")


@pytest.mark.parametrize(
    ("before", "cut"),
    [
        ([], ["<th"]),
        ([], ["<tool_"]),
        (THOUGHT, ["<tool_"]),
        ([], ["<tool_call>", '\n{"name": "sun", "arguments']),
        (THOUGHT, ["<tool_call>", '\n{"name": "sun", "arguments']),
    ],
)
@pytest.mark.parametrize("stop", [(), ("X",)])
def test_a_forced_call_that_is_cut_off_is_no_text(
    before: list[str], cut: list[str], stop: tuple[str, ...]
) -> None:
    pieces = [*before, *cut]
    tokens = 20 if stop else len(pieces)
    told: dict[ToolChoice, str] = {}
    for choice in (ToolChoice.AUTO, ToolChoice.REQUIRED):
        deltas, end = run([*pieces, *stop], tokens, stop=stop, choice=choice)
        assert sum(len(event.token_ids) for event in deltas) == end.usage.completion_tokens
        assert end.reason is (FinishReason.STOP if stop else FinishReason.LENGTH)
        assert not arguments_of(deltas)
        told[choice] = text_of(deltas)
    assert told == {ToolChoice.AUTO: "".join(cut), ToolChoice.REQUIRED: ""}


def test_behind_a_forced_call_a_cut_one_is_no_text() -> None:
    pieces = [*CALL[1:], "\n", "<tool_c"]
    deltas, end = run(pieces, len(pieces), choice=ToolChoice.REQUIRED)
    assert (arguments_of(deltas), text_of(deltas)) == ('{"a": 1}', "")
    assert end.reason is FinishReason.LENGTH
