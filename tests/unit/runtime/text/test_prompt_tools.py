"""Prompts of chats with tools: their own template, tools in words, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsedge.api import Chat, Message, Role, Tool, ToolCall, ToolChoice, ToolFormat
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.answer.formats import FORMATS, format_of
from nsedge.runtime.text.prompt import PromptReader
from tests.token_templates import GPT_OSS
from tests.tool_templates import TEMPLATES
from tests.unit.bundles import tokenizer, write_bundle
from tests.unit.runtime.text.test_prompt import chat, reader

SUN = Tool(function={"name": "sun"})
WITH_TOOLS = "{% for t in tools %}{{ t.function.name }} {% endfor %}{{ messages[0].content }}"


def test_chats_with_tools_may_have_a_template_of_their_own(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny", template="{{ messages[0].content }}!")
    plain = PromptReader(Bundle.open(path), tokenizer())
    path = write_bundle(
        tmp_path / "both", template="{{ messages[0].content }}!", tool_template=WITH_TOOLS
    )
    both = PromptReader(Bundle.open(path), tokenizer())
    asked = chat(("user", "hi"))
    told = replace(asked, tools=(SUN,))
    assert [read.rendered(asked) for read in (plain, both)] == ["hi!", "hi!"]
    assert both.rendered(told) == "sun hi"
    assert both.rendered(replace(told, tool_choice=ToolChoice.NONE)) == "hi!"
    assert "<tools>" in plain.rendered(told)


def test_the_form_of_calls_is_the_templates_or_as_told(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny", template="[TOOL_CALLS] <think></think>"))
    assert PromptReader(bundle, tokenizer()).answers.calls is FORMATS["mistral"]
    told = PromptReader(bundle, tokenizer(), tool_format=ToolFormat.PHI)
    assert told.answers.calls is FORMATS["phi"]
    assert told.answers.thoughts is not None


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("qwen2.5", "hermes"),
        ("qwen3", "hermes"),
        ("llama3", "llama"),
        ("mistral", "mistral"),
        ("hermes", "hermes"),
        ("phi-4-mini", "phi"),
        ("smollm2", "hermes"),
        ("smollm3", "hermes"),
        ("functionary", "functionary"),
    ],
)
def test_templates_tell_the_form(name: str, form: str) -> None:
    assert format_of(TEMPLATES[name]) is FORMATS[form]


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ((("user", "hi"),), "<tools> sun </tools>|hi"),
        ((("system", "s"), ("user", "hi")), "s <tools> sun </tools>|hi"),
    ],
)
def test_tools_in_words_stand_in_the_systems_turn(
    tmp_path: Path, turns: tuple[tuple[str, str], ...], wanted: str
) -> None:
    template = "{% for m in messages %}{{ m.content }}{{ '|' if not loop.last }}{% endfor %}"
    text = reader(tmp_path, template=template).rendered(replace(chat(*turns), tools=(SUN,)))
    words = " ".join(
        text.replace('{"type": "function", "function": {"name": "sun"}}', "sun").split()
    )
    kept, _, rest = words.partition("You can call functions.")
    assert f"{kept}<tools> sun </tools>|{rest.rpartition('|')[2]}" == wanted
    assert '<tool_call> {"name": "NAME", "arguments": {"PARAMETER": VALUE}} </tool_call>' in words


def test_tools_in_words_stand_before_the_question_where_there_is_no_system(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.role }}:{{ m.content }}\n{% endfor %}"
    )
    call = ToolCall(id="c", name="sun", arguments='{"a": 1}')
    task = Chat(
        messages=(
            Message(role=Role.USER, content="hi"),
            Message(role=Role.ASSISTANT, content="So:", tool_calls=(call, call)),
            Message(role=Role.TOOL, content="6"),
            Message(role=Role.TOOL, content="7"),
        ),
        tools=(SUN,),
    )
    text = reader(tmp_path, template=template).rendered(task)
    written = '<tool_call>\n{"name": "sun", "arguments": {"a": 1}}\n</tool_call>'
    assert text.startswith("user:You can call functions.")
    assert text.endswith(
        f"\n\nhi\nassistant:So:\n{written}\n{written}\n"
        "user:<tool_response>\n6\n</tool_response>\n<tool_response>\n7\n</tool_response>\n"
    )


def test_a_template_argument_that_has_a_field_is_refused(tmp_path: Path) -> None:
    task = replace(chat(("user", "hi")), template_arguments={"tools": []})
    with pytest.raises(InvalidParameter, match="tools is no template argument"):
        reader(tmp_path).read(task)


@pytest.mark.parametrize("where", ["documents", "tools", "template_arguments", "messages"])
def test_half_characters_are_refused_wherever_they_stand(tmp_path: Path, where: str) -> None:
    call = ToolCall(id="c", name="sun", arguments='{"a": "\ud800"}')
    bad: dict[str, Any] = {
        "documents": ({"title": "\ud800"},),
        "tools": (Tool(function={"name": "a", "description": "\ud800"}),),
        "template_arguments": {"\ud800": 1},
        "messages": (Message(role=Role.ASSISTANT, content="x", tool_calls=(call,)),),
    }
    with pytest.raises(InvalidParameter, match="lone surrogate"):
        reader(tmp_path, template="{{ documents }}").read(
            replace(chat(("user", "hi")), **{where: bad[where]})
        )


def test_a_prompt_may_end_within_a_thought(tmp_path: Path) -> None:
    template = (
        "{{ messages[-1].content }}{% if open %}<think>\n{% elif shut %}<think></think>{% endif %}"
    )
    read = reader(tmp_path, template=template)
    for arguments, within in (({"open": True}, True), ({"shut": True}, False), ({}, False)):
        task = replace(chat(("user", "hi")), template_arguments=arguments)
        assert read.in_thought(task, read.read(task)) is within


@pytest.mark.parametrize(
    ("said", "within"),
    [
        ("<think>Let me", True),
        ("<think>", True),
        ("<think>Yes.</think>So", False),
        ("So <think", False),
        ("So", False),
    ],
)
def test_what_is_continued_may_be_a_thought(tmp_path: Path, said: str, within: bool) -> None:
    read = reader(tmp_path, template="{{ messages[-1].content }}</think>")
    task = replace(chat(("user", "hi"), ("assistant", said)), continue_final_message=True)
    assert read.rendered(task) == said
    assert read.in_thought(task, read.read(task)) is within


def asking_twice(tmp_path: Path, *results: Message) -> str:
    calls = tuple(
        ToolCall(id=f"c{number}", name=name, arguments=f'{{"n": {number}}}')
        for number, name in enumerate(("sun", "rain"))
    )
    turns = (
        Message(role=Role.USER, content="both?"),
        Message(role=Role.ASSISTANT, content="", reasoning="Hm.", tool_calls=calls),
        *results,
    )
    read = reader(tmp_path, template=GPT_OSS)
    assert read.habits is not None
    assert read.habits.one_call
    described = Tool(function={"name": "sun", "description": "", "parameters": {}})
    return read.rendered(Chat(messages=turns, tools=(described,)))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_template_of_one_call_a_turn_gets_them_one_by_one(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    results = [
        Message(role=Role.TOOL, content=f"r{number}", tool_call_id=f"c{number}") for number in order
    ]
    text = asking_twice(tmp_path, *results)
    _, _, shown = text.partition("<|start|>user<|message|>both?<|end|>")
    assert shown == (
        "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
        '<|start|>assistant to=functions.sun<|channel|>commentary json<|message|>{"n": 0}<|call|>'
        '<|start|>functions.sun to=assistant<|channel|>commentary<|message|>"r0"<|end|>'
        '<|start|>assistant to=functions.rain<|channel|>commentary json<|message|>{"n": 1}<|call|>'
        '<|start|>functions.rain to=assistant<|channel|>commentary<|message|>"r1"<|end|>'
        "<|start|>assistant"
    )


def test_results_without_ids_go_with_the_calls_in_order(tmp_path: Path) -> None:
    text = asking_twice(tmp_path, *(Message(role=Role.TOOL, content=f"r{n}") for n in (0, 1)))
    assert text.index('"r0"') < text.index("functions.rain") < text.index('"r1"')


def test_thoughts_and_words_beside_a_call_are_one_where_the_template_wants_that(
    tmp_path: Path,
) -> None:
    read = reader(tmp_path, template=GPT_OSS)
    call = ToolCall(id="c", name="sun", arguments="{}")
    turns = (
        Message(role=Role.USER, content="?"),
        Message(role=Role.ASSISTANT, content="I look.", reasoning="Hm.", tool_calls=(call,)),
        Message(role=Role.TOOL, content="6", tool_call_id="c"),
    )
    shown = read.rendered(Chat(messages=turns))
    assert "<|channel|>analysis<|message|>Hm.\n\nI look.<|end|>" in shown
