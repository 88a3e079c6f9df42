"""Chats are rendered as `apply_chat_template` of transformers renders them, to the letter.

Where a template knows nothing of tools, or has no place for calls, the daemon puts them in words;
there is nothing to compare then.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from nsedge.api import Chat, Message, Role, Tool, ToolCall, ToolChoice
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.conversation import Habits
from nsedge.runtime.text.prompt import PromptReader
from tests import token_templates, tool_templates
from tests.unit.bundles import tokenizer, write_bundle

SUN: dict[str, Any] = {
    "description": 'When it shines <in> a city, & how "long".',
    "name": "sun",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Oßlo"},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
}
RAIN: dict[str, Any] = {
    "name": "rain",
    "description": "Whether it rains.",
    "parameters": {"type": "object", "properties": {}},
}
ARGUMENTS = {"city": 'Oßlo "<b>"\n', "days": [1, 2]}
CALL = ToolCall(id="abcdefgh1", name="sun", arguments=json.dumps(ARGUMENTS))
OTHER = ToolCall(id="abcdefgh2", name="rain", arguments="{}")
SYSTEM = Message(role=Role.SYSTEM, content="Be brief.\n")
ASKED = Message(role=Role.USER, content=" Sun in Oslo? {}%d ")
CALLED = Message(role=Role.ASSISTANT, content="", tool_calls=(CALL,))
RESULT = Message(role=Role.TOOL, content='{"from": 6}', tool_call_id="abcdefgh1", name="sun")
SAID = Message(role=Role.ASSISTANT, content="From 6 on. ")
THOUGHT = Message(role=Role.ASSISTANT, content="From 6 on.", reasoning="Oslo it is.")
BOTH = Message(role=Role.ASSISTANT, content="Let me see.", tool_calls=(CALL, OTHER))
RESULTS = (RESULT, Message(role=Role.TOOL, content="no", tool_call_id="abcdefgh2", name="rain"))
NAMED = Message(role=Role.USER, content="And Rome?", name="ada")

CHATS: dict[str, Chat] = {
    "a question": Chat(messages=(ASKED,)),
    "turns": Chat(messages=(SYSTEM, ASKED, SAID, NAMED)),
    "no prompt": Chat(messages=(SYSTEM, ASKED, SAID), add_generation_prompt=False),
    "a call": Chat(messages=(SYSTEM, ASKED, CALLED, RESULT)),
    "a call, answered": Chat(messages=(ASKED, CALLED, RESULT, SAID, NAMED)),
    "calls and words": Chat(messages=(ASKED, BOTH, *RESULTS, THOUGHT, NAMED)),
    "thoughts": Chat(messages=(ASKED, THOUGHT, NAMED, CALLED, RESULT)),
    "no thoughts": Chat(messages=(ASKED,), template_arguments={"enable_thinking": False}),
    "a date": Chat(
        messages=(SYSTEM, ASKED),
        template_arguments={"date_string": "1 May", "tools_in_user_message": False},
    ),
    "documents": Chat(messages=(ASKED,), documents=({"title": "Oslo", "text": "A town & more."},)),
    "prefill": Chat(messages=(ASKED, SAID), continue_final_message=True),
    "prefill, trimmed": Chat(messages=(SYSTEM, ASKED, THOUGHT), continue_final_message=True),
}
TEMPLATES = tool_templates.TEMPLATES | token_templates.TEMPLATES
SPECIAL = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "unk_token": "<?>"}


def reader(path: Path, template: str) -> PromptReader:
    bundle = Bundle.open(write_bundle(path / "tiny", template=template, unk_token="<?>"))
    return PromptReader(bundle, tokenizer())


def turn_of(message: Message, habits: Habits) -> dict[str, Any]:
    """A message as users of transformers write it."""
    turn: dict[str, Any] = {"role": str(message.role), "content": message.text}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": call.arguments if habits.as_text else json.loads(call.arguments),
                },
            }
            for call in message.tool_calls
        ]
        turn["content"] = message.text or (None if habits.null_content else "")
    if message.reasoning is not None:
        turn["thinking" if habits.thinking else "reasoning_content"] = message.reasoning
    for name in ("tool_call_id", "name"):
        if (value := getattr(message, name)) is not None:
            turn[name] = value
    return turn


def reference(template: str, task: Chat, habits: Habits) -> str:
    tools = task.usable_tools
    in_system = habits.in_system and not habits.takes_tools
    turns = [turn_of(message, habits) for message in task.messages]
    if in_system and tools:
        if turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": ""})
        shown = json.dumps([tool.function for tool in tools], ensure_ascii=False)
        turns[0] = turns[0] | {"tools": shown}
    (text,), _ = render_jinja_template(
        [turns],
        tools=[tool.described for tool in tools] if tools and not in_system else None,
        documents=list(task.documents) or None,
        chat_template=template,
        add_generation_prompt=task.add_generation_prompt and not task.continue_final_message,
        continue_final_message=task.continue_final_message,
        **SPECIAL,
        **task.template_arguments,
    )
    return str(text)


@pytest.mark.parametrize("tools", [(), (SUN,), (SUN, RAIN)], ids=len)
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_it_is_what_transformers_makes_of_it(
    tmp_path: Path, name: str, chat: str, tools: tuple[dict[str, Any], ...]
) -> None:
    template = TEMPLATES[name]
    read = reader(tmp_path, template)
    habits = read.habits
    task = dataclasses.replace(CHATS[chat], tools=tuple(Tool(function=one) for one in tools))
    calls = any(message.tool_calls for message in task.messages)
    if (tools and not (habits.takes_tools or habits.in_system)) or (
        calls and not habits.takes_calls
    ):
        pytest.skip("tools in words")
    if habits.one_call and any(len(message.tool_calls) > 1 for message in task.messages):
        pytest.skip("calls one by one")
    if task.documents and "documents" not in template:
        with pytest.raises(InvalidParameter, match="no place for documents"):
            read.rendered(task)
        return
    try:
        wanted = reference(template, task, habits)
    except Exception:  # a template may refuse in any way, and has to refuse the daemon, too
        with pytest.raises(InvalidRequest):
            read.rendered(task)
        return
    assert read.rendered(task) == wanted


def test_none_hides_the_tools(tmp_path: Path) -> None:
    read = reader(tmp_path, TEMPLATES["qwen3"])
    chat = Chat(messages=(ASKED,), tools=(Tool(function=SUN),), tool_choice=ToolChoice.NONE)
    assert read.rendered(chat) == read.rendered(Chat(messages=(ASKED,)))


@pytest.mark.parametrize(
    ("name", "tools", "system", "calls", "text", "null"),
    [
        ("qwen2.5", True, False, True, False, True),
        ("qwen3", True, False, True, False, True),
        ("llama3", True, False, True, False, True),
        ("mistral", True, False, True, False, True),
        ("hermes", True, False, True, False, True),
        ("phi-4-mini", False, True, False, False, False),
        ("smollm2", False, False, False, False, False),
        ("smollm3", True, False, False, False, False),
        ("functionary", True, False, True, False, True),
        ("deepseek", False, False, True, True, True),
        ("command-r", False, False, False, False, False),
        ("lfm2", True, False, False, False, False),
        ("lfm2.5", True, False, True, False, True),
        ("deepseek-r1", False, False, True, True, True),
        ("deepseek-v3.1", False, False, True, True, True),
        ("kimi-k2", True, False, True, False, True),
        ("gpt-oss", True, False, True, False, False),
    ],
)
def test_what_a_template_takes_is_found(
    tmp_path: Path, name: str, tools: bool, system: bool, calls: bool, text: bool, null: bool
) -> None:
    habits = reader(tmp_path, TEMPLATES[name]).habits
    assert (habits.takes_tools, habits.in_system, habits.takes_calls) == (tools, system, calls)
    assert (habits.as_text, habits.null_content) == (text, null)
