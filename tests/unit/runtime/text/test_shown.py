"""Marks that are special tokens: they have no text, but where an answer is told apart."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from nsedge.api import Chat, Message, Role, Tool
from nsedge.runtime.text.answer.formats import FORMATS, Body, CallFormat, ThoughtMarks
from nsedge.runtime.text.answer.parts import CallPiece, Said, Thought
from nsedge.runtime.text.answer.reader import AnswerForm
from nsedge.runtime.text.detokenizer import Detokenizer
from tests.unit.template_families import FAMILIES

SUN = Tool(
    function={
        "name": "sun",
        "parameters": {"properties": {"city": {"type": "string"}, "days": {"type": "array"}}},
    }
)
OSLO = '{"city": "Oßlo 🙂", "days": [1, 2]}'


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("family", ["chatml", "llama3", "mistral", "gemma"])
def test_an_answer_of_tokens_is_told_apart(family: str, form: CallFormat) -> None:
    tokenizer = FAMILIES[family].tokenizer()
    thoughts = ThoughtMarks("[THINK]", "[/THINK]")
    marks = [mark for mark in form.marks if mark not in (">", "functools")]
    tokenizer.add_special_tokens(
        [AddedToken(mark, special=True) for mark in (*marks, thoughts.begin, thoughts.end)]
    )
    answers = AnswerForm(calls=form, thoughts=thoughts)
    task = Chat(
        messages=(Message(role=Role.USER, content="hi"),),
        tools=(SUN,),
        split_reasoning=True,
    )
    before = "" if form.bare else "So it is: "
    text = f"[THINK]Hm, 🙂.[/THINK]{before}{form.written('sun', OSLO)}"
    if form.body is Body.CHANNELS:
        text = (
            f"<|channel|>analysis<|message|>Hm, 🙂.<|end|><|start|>assistant<|channel|>commentary"
            f"<|message|>{before}<|end|><|start|>assistant{form.written('sun', OSLO)}"
        )
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    known = {tokenizer.token_to_id(mark) for mark in marks}
    assert form.bare or known & set(ids)
    stream = Detokenizer(tokenizer).stream(shown=answers.marks(task))
    reader = answers.reader(task, in_thought=lambda: False)
    assert reader is not None
    parts = [part for token in ids for part in reader.push(stream.push(token).text)]
    parts += [*reader.push(stream.flush()), *reader.end()]
    assert "".join(part.text for part in parts if isinstance(part, Thought)) == "Hm, 🙂."
    said = "".join(part.text for part in parts if isinstance(part, Said))
    assert said.strip() == before.strip()
    calls = [part for part in parts if isinstance(part, CallPiece)]
    assert [part.name for part in calls if part.name] == ["sun"]
    assert "".join(part.arguments for part in calls) == OSLO


def test_without_tools_special_tokens_have_no_text() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.add_special_tokens([AddedToken("<tool_call>", special=True)])
    answers = AnswerForm(calls=FORMATS["hermes"], thoughts=None)
    task = Chat(messages=(Message(role=Role.USER, content="hi"),), split_reasoning=True)
    ids = tokenizer.encode("the <tool_call> user", add_special_tokens=False).ids
    stream = Detokenizer(tokenizer).stream(shown=answers.marks(task))
    assert "".join(stream.push(token).text for token in ids) + stream.flush() == "the  user"
    assert answers.reader(task, in_thought=lambda: True) is None
