"""Grammars of calls: what an answer may be, be the marks of calls tokens or letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from nsedge.api import Chat, Constraint, Message, Role, Tool, ToolChoice
from nsedge.errors import InvalidParameter
from nsedge.runtime.structure.grammars import Grammars
from nsedge.runtime.text.answer.calls import CallReader
from nsedge.runtime.text.answer.formats import (
    FORMATS,
    HERMES,
    LFM2,
    MISTRAL,
    PARAMETERS,
    Body,
    CallFormat,
    ThoughtMarks,
    python_call,
)
from nsedge.runtime.text.answer.grammar import CallGrammars, is_held
from nsedge.runtime.text.answer.parts import CallPiece
from nsedge.runtime.text.answer.reader import AnswerForm
from tests.unit.bundles import tokenizer

THINK = ThoughtMarks("<think>", "</think>")
JSON = Constraint.json_object()
ASKED = (Message(role=Role.USER, content="hi"),)
SUN = Tool(
    function={
        "name": "sun",
        "parameters": {
            "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
)
RAIN = Tool(function={"name": "rain"})
OSLO = '{"city": "Oslo", "days": 2}'


FORMS = [form for form in FORMATS.values() if form.body is not Body.CHANNELS]


def with_tokens(*marks: str) -> Tokenizer:
    made = tokenizer()
    made.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return made


def grammars_for(
    form: CallFormat, made: Tokenizer, thoughts: ThoughtMarks | None = None
) -> CallGrammars:
    def token_of(text: str) -> int | None:
        added = {one.content: number for number, one in made.get_added_tokens_decoder().items()}
        return added.get(text)

    return CallGrammars(calls=form, thoughts=thoughts, token_of=token_of)


def fits(constraint: Constraint | None, made: Tokenizer, text: str) -> bool:
    """Whether an answer may be `text`, each token of it allowed by the mask before it."""
    assert constraint is not None
    size, end = made.get_vocab_size(), made.token_to_id("<|end|>")
    guide = Grammars(made, size=size, end_ids=(end,)).guide(constraint)

    def may() -> set[int]:
        bits = np.unpackbits(guide.mask().view(np.uint8), count=size, bitorder="little")
        return set(np.flatnonzero(bits).tolist())

    for token in made.encode(text, add_special_tokens=False).ids:
        if token not in may():
            return False
        guide.accept(token)
        guide.fill()
    return guide.done or end in may()


def written(form: CallFormat, *calls: tuple[str, str]) -> str:
    """Calls as models of a form write several."""
    if not form.in_array:
        begin, end = form.section or ("", "")
        each = (form.written(name, given) for name, given in calls)
        bare = (one.removeprefix(begin).removesuffix(end) for one in each)
        return f"{begin}{form.between.join(bare)}{end}"
    if form.body is Body.PYTHON:
        parts = [python_call(name, given) for name, given in calls]
    else:
        parts = [f'{{"name": "{name}", "arguments": {given}}}' for name, given in calls]
    return f"{form.begins[0]}[{', '.join(parts)}]{form.end or ''}"


def chat(**fields: Any) -> Chat:
    return Chat(messages=ASKED, **({"tools": (SUN, RAIN)} | fields))


def tokens_of(form: CallFormat) -> Tokenizer:
    return with_tokens(*(mark for mark in form.marks if mark != ">" and mark != "functools"))


VOCABULARIES: dict[str, Callable[[CallFormat], Tokenizer]] = {
    "tokens": tokens_of,
    "letters": lambda form: tokenizer(),
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_required_call_is_all_that_may_come(form: CallFormat, vocabulary: str) -> None:
    made = VOCABULARIES[vocabulary](form)
    grammars = grammars_for(form, made)
    held = grammars.constraint(chat(tool_choice=ToolChoice.REQUIRED), in_thought=False)
    headed = form is MISTRAL and vocabulary == "tokens"
    if headed:  # it has the token that the newer form has
        good = f"[TOOL_CALLS]sun[ARGS]{OSLO}", "[TOOL_CALLS]rain[ARGS]{}"
    else:
        good = written(form, ("sun", OSLO)), written(form, ("rain", "{}"))
    for text in good:
        assert fits(held, made, text), text
        reader = CallReader(form, tools={"sun", "rain"}, new_id=lambda: "id")
        parts = [*reader.push(text), *reader.end()]
        assert reader.calls == 1
        assert all(isinstance(part, CallPiece) for part in parts)
    for bad in ("Oslo.", "", written(form, ("sun", '{"city": "Bonn"}')), f"Well {good[0]}"):
        assert not fits(held, made, bad), bad
    for bad in (written(form, ("snow", "{}")), good[0][:-3], f"{good[0]} so"):
        assert not fits(held, made, bad), bad


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_several_calls_or_one(form: CallFormat) -> None:
    made = tokenizer()
    grammars = grammars_for(form, made)
    two = written(form, ("sun", OSLO), ("rain", "{}"))
    one = written(form, ("sun", OSLO))
    required = chat(tool_choice=ToolChoice.REQUIRED, parallel_tool_calls=True)
    assert fits(grammars.constraint(required, in_thought=False), made, two)
    unsaid = chat(tool_choice=ToolChoice.REQUIRED)
    named = chat(tool_choice=ToolChoice.REQUIRED, tool_name="sun")
    alone = chat(tool_choice=ToolChoice.REQUIRED, parallel_tool_calls=False)
    for task in (named, alone, unsaid):
        held = grammars.constraint(task, in_thought=False)
        assert fits(held, made, one)
        assert not fits(held, made, two)
    held = grammars.constraint(named, in_thought=False)
    assert not fits(held, made, written(form, ("rain", "{}")))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_strict_tool_among_text(form: CallFormat, vocabulary: str) -> None:
    made = VOCABULARIES[vocabulary](form)
    strict = Tool(function=SUN.function, strict=True)
    task = chat(tools=(strict, RAIN))
    held = grammars_for(form, made).constraint(task, in_thought=False)

    def call(name: str, given: str) -> str:
        if form is MISTRAL and vocabulary == "tokens":
            return f"[TOOL_CALLS]{name}[ARGS]{given}"
        return written(form, (name, given))

    good = call("sun", OSLO)
    assert fits(held, made, "It does.\nNot <b>.")
    assert fits(held, made, good)
    if form not in (PARAMETERS, LFM2):  # these tell the parameters that there are
        assert fits(held, made, call("rain", '{"any": [1]}'))
    assert not fits(held, made, call("sun", '{"city": "Bonn"}'))
    assert not fits(held, made, good[:-3])
    if form.unmarked:  # what begins as an object is a call
        assert fits(held, made, f'{{"name": "sun", "{form.arguments}": {OSLO}}}')
        assert not fits(held, made, f'{{"name": "sun", "{form.arguments}": {{"city": "Bonn"}}}}')
        assert not fits(held, made, "{}")
        for block in ("```json\n{", "```\n{"):
            assert not fits(held, made, block)
        for block in ("```python\nprint()\n```", "```js\n;", "```java\n;", "`a`", "a `{}`"):
            assert fits(held, made, block), block
    if not form.bare:
        assert fits(held, made, f"Let me see. {good}")
        assert fits(held, made, f"{good} and {call('rain', '{}')}")


@pytest.mark.parametrize("tokens", [True, False])
def test_a_thought_may_come_first(tokens: bool) -> None:
    made = with_tokens("<think>", "</think>") if tokens else tokenizer()
    grammars = grammars_for(HERMES, made, THINK)
    call = written(HERMES, ("sun", OSLO))
    task = chat(tool_choice=ToolChoice.REQUIRED)
    fresh, going = (grammars.constraint(task, in_thought=within) for within in (False, True))
    assert fits(fresh, made, f"<think>\nHm.\n</think>\n\n{call}")
    assert fits(fresh, made, call)
    assert not fits(fresh, made, "<think>Hm.</think>")
    assert fits(going, made, f"Hm.\n</think>\n\n{call}")
    assert not fits(going, made, "Hm.")


def test_an_answer_with_a_constraint_of_its_own_is_that_or_calls() -> None:
    made = tokenizer()
    grammars = grammars_for(HERMES, made)
    task = chat(constraint=Constraint.json_schema({"type": "array"}))
    held = grammars.constraint(task, in_thought=False)
    assert fits(held, made, "[1]")
    assert fits(held, made, written(HERMES, ("sun", OSLO)))
    assert not fits(held, made, "Oslo")
    with pytest.raises(InvalidParameter, match="regex does not go with tools"):
        grammars.constraint(chat(constraint=Constraint.regex("a+")), in_thought=False)


@pytest.mark.parametrize("own", [Constraint.json_schema({"type": "array"}), JSON])
def test_a_thought_may_stand_before_json(own: Constraint) -> None:
    made = with_tokens("<think>", "</think>")
    grammars = grammars_for(HERMES, made, THINK)
    said = "[1]" if own is not JSON else '{"a": 1}'
    split = Chat(messages=ASKED, constraint=own, split_reasoning=True)
    fresh, going = (grammars.constraint(split, in_thought=within) for within in (False, True))
    assert fits(fresh, made, said)
    assert fits(fresh, made, f"<think>Hm.</think>\n\n{said}")
    assert fits(going, made, f"Hm.</think>{said}")
    assert not fits(going, made, said)
    whole = Chat(messages=ASKED, constraint=own)
    assert grammars.constraint(whole, in_thought=True) == own


def test_a_constraint_that_is_no_json_is_all_of_an_answer() -> None:
    made = tokenizer()
    own = Constraint.regex("a+")
    task = Chat(messages=ASKED, constraint=own, split_reasoning=True)
    assert grammars_for(HERMES, made, THINK).constraint(task, in_thought=True) == own
    assert AnswerForm(calls=HERMES, thoughts=THINK).reader(task, in_thought=lambda: True) is None


def test_what_is_free_has_no_grammar() -> None:
    grammars = grammars_for(HERMES, tokenizer())
    own = Constraint.regex("a+")
    hidden = chat(tool_choice=ToolChoice.NONE, constraint=own)
    assert grammars.constraint(hidden, in_thought=False) == own
    for task in (chat(), Chat(messages=ASKED)):
        assert not is_held(task)
        assert grammars.constraint(task, in_thought=False) is None
    assert is_held(hidden)
    assert is_held(chat(tools=(Tool(function={"name": "a"}, strict=True),)))
