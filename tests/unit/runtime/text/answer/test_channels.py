"""Answers on channels, from examples of OpenAI's harmony format: thoughts, calls and text."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.api import Chat, Message, Role, Tool, ToolChoice
from nsedge.runtime.text.answer.channels import ChannelReader
from nsedge.runtime.text.answer.formats import FORMATS, HARMONY, format_of
from nsedge.runtime.text.answer.parts import CallPiece, Part, Said, Thought, joined
from nsedge.runtime.text.answer.reader import AnswerForm, AnswerReader
from tests.token_templates import GPT_OSS

CALL = (
    "<|channel|>commentary to=functions.get_current_weather <|constrain|>json<|message|>"
    '{"location":"San Francisco"}'
)
THOUGHT = "<|channel|>analysis<|message|>Need to use function get_current_weather.<|end|>"
FINAL = "<|channel|>final<|message|>2 + 2 = 4."
THOUGHT_PART = Thought("Need to use function get_current_weather.")
CALL_PARTS = [
    CallPiece(0, "", id="id0", name="get_current_weather"),
    CallPiece(0, '{"location":"San Francisco"}'),
]


def channel_reader(**fields: Any) -> ChannelReader:
    ids = itertools.count()
    given = {"calls": True, "split": True, **fields}
    return ChannelReader(new_id=lambda: f"id{next(ids)}", **given)


def read(*pieces: str, **fields: Any) -> list[Part]:
    one = channel_reader(**fields)
    parts = [part for piece in pieces for part in one.push(piece)]
    return joined([*parts, *one.end()])


GOOD: dict[str, tuple[str, list[Part]]] = {
    "an answer": (
        "<|channel|>analysis<|message|>User asks: sum.<|end|><|start|>assistant" + FINAL,
        [Thought("User asks: sum."), Said("2 + 2 = 4.")],
    ),
    "its end": (FINAL + "<|return|>", [Said("2 + 2 = 4.")]),
    "a call": (f"{THOUGHT}<|start|>assistant{CALL}<|call|>", [THOUGHT_PART, *CALL_PARTS]),
    "to whom, first": (
        "<|start|>assistant to=functions.get_current_weather<|channel|>commentary json<|message|>"
        '{"location":"San Francisco"}<|call|>',
        CALL_PARTS,
    ),
    "to whom, first, where the prompt has begun": (
        " to=functions.get_current_weather<|channel|>commentary <|constrain|>json<|message|>"
        '{"location":"San Francisco"}',
        CALL_PARTS,
    ),
    "on the channel of thoughts": (
        CALL.replace("commentary", "analysis"),
        CALL_PARTS,
    ),
    "a preamble": (
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant" + CALL,
        [Said("I look."), *CALL_PARTS],
    ),
    "two calls": (
        f"{CALL}<|call|><|start|>assistant{CALL}<|call|>",
        [
            *CALL_PARTS,
            CallPiece(1, "", id="id1", name="get_current_weather"),
            CallPiece(1, '{"location":"San Francisco"}'),
        ],
    ),
    "no arguments": (
        "<|channel|>commentary to=functions.now<|message|><|call|>",
        [CallPiece(0, "", id="id0", name="now"), CallPiece(0, "{}")],
    ),
    "blanks around": (
        "<|channel|>commentary to=functions.now<|message|>\n {} \n<|call|>",
        [CallPiece(0, "", id="id0", name="now"), CallPiece(0, "{}")],
    ),
    "thoughts and text, twice each": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b"
        "<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|><|start|>assistant"
        "<|channel|>final<|message|>d",
        [Thought("a\nb"), Said("c\nd")],
    ),
    "an end that is missing": (
        "<|channel|>analysis<|message|>a<|channel|>final<|message|>b",
        [Thought("a"), Said("b")],
    ),
    "a tool of its own": (
        "<|channel|>analysis to=python code<|message|>1+1<|call|>",
        [Thought("1+1")],
    ),
    "no channel": ("Just text, {} and <|x|>.", [Said("Just text, {} and <|x|>.")]),
    "no channel, then one": (
        '{"a": 1}<|end|><|start|>assistant<|channel|>final<|message|>b',
        [Said('{"a": 1}b')],
    ),
    "a header that was cut off": (f"{THOUGHT}<|start|>assistant<|chan", [THOUGHT_PART]),
}


@pytest.mark.parametrize("name", GOOD)
def test_messages_are_told_apart_in_any_split(name: str) -> None:
    text, parts = GOOD[name]
    for pieces in ([text], list(text), [text[:25], text[25:]]):
        assert read(*pieces) == parts


def test_thoughts_that_are_not_split_are_text_marks_included() -> None:
    text, _ = GOOD["an answer"]
    said = "<|channel|>analysis<|message|>User asks: sum.<|end|>2 + 2 = 4."
    assert read(text, split=False) == read(*text, split=False) == [Said(said)]


def test_without_tools_what_is_said_to_a_function_is_text() -> None:
    assert read(CALL + "<|call|>", calls=False) == [Said('{"location":"San Francisco"}')]


def test_what_breaks_the_arguments_is_text() -> None:
    text = '<|channel|>commentary to=functions.f<|message|>{"a": no}<|call|>'
    assert read(*text) == [
        CallPiece(0, "", id="id0", name="f"),
        CallPiece(0, '{"a": no'),
        Said("}"),
    ]
    one = channel_reader()
    one.push(CALL[:-1])
    assert not one.has_called
    one.push("}")
    assert one.has_called


def test_where_one_call_is_wanted_it_is_the_end() -> None:
    one = channel_reader(parallel=False)
    parts = one.push(f"{CALL}<|call|><|start|>assistant{CALL}")
    assert (parts, one.is_full, one.end()) == (CALL_PARTS, True, [])


def test_a_message_that_the_prompt_began_goes_on() -> None:
    assert read("more<|end|>", is_begun=True) == [Said("more")]


def test_of_an_answer_that_is_held_to_a_call_nothing_is_text() -> None:
    assert read(THOUGHT, is_forced=True) == [THOUGHT_PART]
    assert read("<|channel|>final<|message|>x"[:-1], is_forced=True) == []


def test_a_template_tells_the_form_and_it_its_reader() -> None:
    assert format_of(GPT_OSS) is HARMONY is FORMATS["harmony"]
    form = AnswerForm(calls=HARMONY, thoughts=None)
    asked = (Message(role=Role.USER, content="hi"),)
    tools = (Tool(function={"name": "sun"}),)
    plain = Chat(messages=asked)
    for task in (
        plain,
        Chat(messages=asked, split_reasoning=True),
        Chat(messages=asked, tools=tools),
        Chat(messages=asked, tools=tools, tool_choice=ToolChoice.REQUIRED),
    ):
        assert isinstance(form.reader(task, in_thought=bool), ChannelReader)
        assert {"<|channel|>", "<|start|>", "<|end|>", "<|call|>"} <= form.marks(task)
    hermes = AnswerForm(calls=FORMATS["hermes"], thoughts=None)
    assert isinstance(
        hermes.reader(Chat(messages=asked, tools=tools), in_thought=bool), AnswerReader
    )


@given(
    st.lists(
        st.sampled_from(
            [
                *HARMONY.marks,
                "analysis",
                "final",
                "commentary",
                " to=functions.f",
                "{",
                "}",
                '"',
                "a",
                " ",
            ]
        ),
        max_size=20,
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_split_of_anything_gives_the_same(pieces: list[str], split: bool, random: Any) -> None:
    text = "".join(pieces)
    cuts = sorted(random.sample(range(len(text) + 1), min(len(text), 3)))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert read(*parts, split=split) == read(text, split=split)
