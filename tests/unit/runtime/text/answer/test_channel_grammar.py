"""Grammars of answers on channels: calls, text of a form, and a thought before them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer

from nsedge.api import Chat, Constraint, ToolChoice
from nsedge.runtime.text.answer.channel_grammar import ChannelGrammars
from nsedge.runtime.text.answer.formats import HARMONY
from tests.unit.bundles import tokenizer
from tests.unit.runtime.text.answer.test_grammar import (
    ASKED,
    JSON,
    OSLO,
    RAIN,
    SUN,
    fits,
    with_tokens,
)

THOUGHT = "<|channel|>analysis<|message|>Hm {\n.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
CALL = HARMONY.written("sun", OSLO).removesuffix("<|call|>")


@pytest.fixture(params=["tokens", "letters"])
def made(request: pytest.FixtureRequest) -> Tokenizer:
    return with_tokens(*HARMONY.marks) if request.param == "tokens" else tokenizer()


def held(made: Tokenizer, **fields: Any) -> Constraint | None:
    added = {one.content: number for number, one in made.get_added_tokens_decoder().items()}
    return ChannelGrammars(token_of=added.get).constraint(
        Chat(messages=ASKED, **fields), in_thought=False
    )


def test_a_required_call_is_all_that_may_come_but_for_a_thought(made: Tokenizer) -> None:
    one = held(made, tools=(SUN, RAIN), tool_choice=ToolChoice.REQUIRED)
    rain = HARMONY.written("rain", "{}").removesuffix("<|call|>")
    for good in (CALL, rain, THOUGHT + CALL):
        assert fits(one, made, good), good
    bonn = CALL.replace("Oslo", "Bonn")
    for bad in ("", "Oslo", FINAL + "Oslo", bonn, f"{CALL}.", CALL.replace("sun", "snow")):
        assert not fits(one, made, bad), bad


def test_the_tool_that_is_named(made: Tokenizer) -> None:
    fields = {"tool_choice": ToolChoice.REQUIRED, "tool_name": "rain"}
    one = held(made, tools=(SUN, RAIN), **fields)
    assert fits(one, made, HARMONY.written("rain", "{}").removesuffix("<|call|>"))
    assert not fits(one, made, CALL)


def test_a_strict_tool_among_free_text(made: Tokenizer) -> None:
    strict = type(SUN)(function=SUN.function, strict=True)
    one = held(made, tools=(strict, RAIN))
    free = HARMONY.written("rain", '{"any": 1}').removesuffix("<|call|>")
    for good in (FINAL + "Oslo {", THOUGHT + FINAL, CALL, THOUGHT + CALL, free):
        assert fits(one, made, good), good
    assert not fits(one, made, CALL.replace("Oslo", "Bonn"))


def test_an_answer_of_a_form_is_on_its_channel(made: Tokenizer) -> None:
    one = held(made, constraint=JSON, split_reasoning=True)
    for good in (FINAL + '{"a": 1}', THOUGHT + FINAL + "{}"):
        assert fits(one, made, good), good
    for bad in (FINAL + "no", "{}", THOUGHT):
        assert not fits(one, made, bad), bad
    both = held(made, constraint=JSON, tools=(SUN,))
    assert fits(both, made, CALL)
    assert fits(both, made, FINAL + "{}")


def test_what_cannot_have_a_channel_is_that_and_nothing_else(made: Tokenizer) -> None:
    regex = Constraint.regex("a+")
    assert held(made, constraint=regex, split_reasoning=True) is regex
    assert held(made, constraint=JSON) is JSON, "nobody reads channels there"
    assert held(made, tools=(SUN,)) is None
