"""A thought at an answer's beginning, told from what follows, however the text is split."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.api import Chat, Message, Role, Tool
from nsedge.runtime.text.answer.formats import HERMES, ThoughtMarks
from nsedge.runtime.text.answer.parts import CallPiece, Said, Thought
from nsedge.runtime.text.answer.reader import AnswerForm, AnswerReader

FORM = AnswerForm(calls=HERMES, thoughts=ThoughtMarks("<think>", "</think>"))
CALL = '<tool_call>{"name": "sun", "arguments": {}}</tool_call>'


def reader(*, split: bool = True, tools: bool = True, in_thought: bool = False) -> AnswerReader:
    task = Chat(
        messages=(Message(role=Role.USER, content="hi"),),
        split_reasoning=split,
        tools=(Tool(function={"name": "sun"}),) if tools else (),
    )
    made = FORM.reader(task, in_thought=lambda: in_thought)
    assert made is not None
    return made


def read(one: AnswerReader, pieces: list[str]) -> tuple[str, str, int]:
    """Thought, text and the number of calls."""
    thought, said, calls = "", "", 0
    for part in itertools.chain(*(one.push(piece) for piece in pieces), one.end()):
        match part:
            case Thought(text):
                assert (said, calls) == ("", 0)
                thought += text
            case Said(text):
                said += text
            case CallPiece(name=str()):
                calls += 1
    return thought, said, calls


@pytest.mark.parametrize(
    ("text", "in_thought", "wanted"),
    [
        ("<think>\nWell,\n\nyes.\n</think>\n\nFour.", False, ("Well,\n\nyes.", "Four.", 0)),
        ("\n<think></think>Four.", False, ("", "Four.", 0)),
        ("Well,\n\nyes.\n</think>\n\nFour.", True, ("Well,\n\nyes.", "Four.", 0)),
        ("<think>cut <", False, ("cut <", "", 0)),
        ("<think>cut \n", False, ("cut", "", 0)),
        ("cut", True, ("cut", "", 0)),
        ("Four <think>x</think>", False, ("", "Four <think>x</think>", 0)),
        (" <thin", False, ("", " <thin", 0)),
        ("", False, ("", "", 0)),
        (f"<think>Is it {CALL}?</think>\n{CALL}", False, (f"Is it {CALL}?", "", 1)),
    ],
)
def test_a_thought_comes_first(text: str, in_thought: bool, wanted: tuple[str, str, int]) -> None:
    assert read(reader(in_thought=in_thought), [text]) == wanted
    assert read(reader(in_thought=in_thought), list(text)) == wanted


@pytest.mark.parametrize("in_thought", [False, True])
def test_where_it_is_not_split_it_is_said_and_its_calls_are_none(in_thought: bool) -> None:
    begins = "" if in_thought else "\n<think>\n"
    text = f"{begins}Is it {CALL}?\n</think>\n{CALL}"
    for pieces in ([text], list(text)):
        found = read(reader(split=False, in_thought=in_thought), pieces)
        assert found == ("", f"{begins}Is it {CALL}?\n</think>\n", 1)


def test_without_tools_or_splitting_nothing_reads() -> None:
    task = Chat(messages=(Message(role=Role.USER, content="hi"),))
    assert FORM.reader(task, in_thought=lambda: True) is None
    assert FORM.marks(task) == frozenset()


PIECES = ["<think>", "</think>", "<", "think>", "/", " ", "\n", "a", CALL, "<tool_call>"]


@given(
    text=st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    split=st.booleans(),
    in_thought=st.booleans(),
    data=st.data(),
)
def test_any_split_gives_the_same(
    text: str, split: bool, in_thought: bool, data: st.DataObject
) -> None:
    whole = read(reader(split=split, in_thought=in_thought), [text])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert read(reader(split=split, in_thought=in_thought), pieces) == whole
    assert read(reader(split=split, in_thought=in_thought), list(text)) == whole
