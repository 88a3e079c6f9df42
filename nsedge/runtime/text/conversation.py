"""Conversations as chat templates take them, tools and calls included.

Templates differ in where they want tools, and in whether the arguments of a call are a mapping or
its JSON; trying shows which. One that knows no tools gets them in words, in the form that its
bundle is held to, and calls and their results as turns that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nsedge.api import Chat, Message, Role, Tool, ToolCall
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.answer.formats import CallFormat
from nsedge.runtime.text.control import TemplateTurn

Render = Callable[[Mapping[str, Any]], str]
"""Renders the template's variables; raises whatever it raises."""
RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
)
"""Variables that have fields of their own."""
_TOOL = Tool(
    function={
        "name": "probe_tool",
        "description": "x",
        "parameters": {"type": "object", "properties": {}, "required": []},
    }
)
_ASKED: TemplateTurn = {"role": "user", "content": "a"}
_ANSWERED: TemplateTurn = {
    "role": "tool",
    "content": "d",
    "tool_call_id": "abcdefghi",
    "name": "probe_tool",
}
_KEY = "probe_key"
_OTHER_KEY = "probe_other"
_THOUGHT = "probe_thought"
_ARGUMENTS = {_KEY: "v"}


def _calling(arguments: str | dict[str, str], content: str | None) -> TemplateTurn:
    function = {"name": "probe_tool", "arguments": arguments}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a template takes tools.

    - takes_tools: it shows the variable `tools`. in_system: it shows the field of that name of the
      system's turn.
    - takes_calls: it shows `tool_calls` of the assistant. as_text: their arguments as JSON.
    - null_content: what the assistant says beside calls, where that is nothing, may be null.
    - takes_system: it has a place for a system's turn.
    - thinking: what the assistant thought is `thinking` to it, and not `reasoning_content`.
    - in_one: beside calls it takes what was thought or what was said, not both.
    - one_call: it shows the first call of a turn alone.
    """

    takes_tools: bool
    in_system: bool
    takes_calls: bool
    as_text: bool
    null_content: bool
    takes_system: bool
    thinking: bool
    in_one: bool
    one_call: bool

    @classmethod
    def of(cls, render: Render) -> Habits:
        """The habits of the template that `render` renders, found by trying."""

        def tried(*turns: TemplateTurn, **more: Any) -> str:
            variables = {
                "messages": list(turns),
                "tools": None,
                "documents": None,
                "add_generation_prompt": False,
            }
            try:
                return render(variables | more)
            except (
                Exception
            ):  # a template is code, may fail in any way, and is told of when it is used
                return ""

        system: TemplateTurn = {"role": "system", "content": "c"}
        told = system | {"tools": _in_json([_TOOL])}
        in_json = json.dumps(_ARGUMENTS)

        def called(arguments: str | dict[str, str], *contents: str | None) -> str:
            # Some templates fail where there are calls and no tools.
            turns = (_calling(arguments, content) for content in contents)
            told = (tried(_ASKED, turn, _ANSWERED, tools=[_TOOL.described]) for turn in turns)
            return next((text for text in told if _KEY in text), "")

        as_mapping, as_text = called(_ARGUMENTS, "", None), called(in_json, "", None)
        is_odd = _KEY not in as_mapping or repr(_ARGUMENTS) in as_mapping
        text = is_odd and in_json in as_text
        empty = called(in_json if text else _ARGUMENTS, None)

        def thought(key: str, content: str) -> bool:
            turn = _calling(in_json if text else _ARGUMENTS, content) | {key: _THOUGHT}
            return _THOUGHT in tried(_ASKED, turn, _ANSWERED, tools=[_TOOL.described])

        thinking = thought("thinking", "") and not thought("reasoning_content", "")
        twice = _calling(in_json if text else _ARGUMENTS, "")
        twice["tool_calls"] = [*twice["tool_calls"], *_calling({_OTHER_KEY: "v"}, "")["tool_calls"]]
        if text:
            twice["tool_calls"][1]["function"]["arguments"] = json.dumps({_OTHER_KEY: "v"})
        both = tried(_ASKED, twice, _ANSWERED, tools=[_TOOL.described])
        return cls(
            takes_tools=_TOOL.name in tried(_ASKED, tools=[_TOOL.described]),
            in_system=_TOOL.name in tried(told, _ASKED),
            takes_calls=_KEY in as_mapping or text,
            as_text=text,
            null_content=_KEY in empty and "None" not in empty,
            takes_system="c" in tried(system, {"role": "user", "content": "q"}),
            thinking=thinking,
            in_one=thinking and not thought("thinking", "s"),
            one_call=_KEY in both and _OTHER_KEY not in both,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Makes the variables of one template out of chats. `calls` is the form of its calls."""

    habits: Habits
    calls: CallFormat

    def variables(self, task: Chat) -> dict[str, Any]:
        """What the template gets; its special tokens are not among it.

        Raises:
            InvalidParameter: template arguments that have fields of their own.
        """
        for name in task.template_arguments:
            if name in RESERVED:
                raise InvalidParameter(
                    f"{name} is no template argument, but a field of its own",
                    param="template_arguments",
                )
        tools, habits = task.usable_tools, self.habits
        called = any(message.tool_calls for message in task.messages)
        knows_tools = habits.takes_tools or habits.in_system
        if knows_tools or (not tools and (habits.takes_calls or not called)):
            messages = _one_by_one(task.messages) if habits.one_call else task.messages
            turns = [self._turn(message) for message in messages]
            if tools and not habits.takes_tools:
                system, *others = _with_system(turns)
                turns = [{**system, "tools": _in_json(tools)}, *others]
        else:
            turns = self._in_words(task.messages)
            if tools:
                turns = self._explained(turns, tools)
        return {
            "messages": turns,
            "tools": [tool.described for tool in tools] if tools and habits.takes_tools else None,
            "documents": list(task.documents) or None,
            "add_generation_prompt": (
                task.add_generation_prompt and not task.continue_final_message
            ),
            **task.template_arguments,
        }

    def _turn(self, message: Message) -> TemplateTurn:
        turn: TemplateTurn = {"role": str(message.role), "content": message.text}
        if message.reasoning is not None:
            turn["thinking" if self.habits.thinking else "reasoning_content"] = message.reasoning
        if message.tool_calls and not self.habits.takes_calls:
            turn["content"] = self._with_calls(message)
        elif message.tool_calls:
            turn["tool_calls"] = [self._call(call) for call in message.tool_calls]
            if not message.text and self.habits.null_content:
                turn["content"] = None
            elif message.text and message.reasoning and self.habits.in_one:
                turn |= {"thinking": f"{message.reasoning}\n\n{message.text}", "content": ""}
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            turn["name"] = message.name
        return turn

    def _call(self, call: ToolCall) -> dict[str, Any]:
        arguments = call.arguments if self.habits.as_text else _mapping(call.arguments)
        function = {"name": call.name, "arguments": arguments}
        return {"id": call.id, "type": "function", "function": function}

    def _in_words(self, messages: Sequence[Message]) -> list[TemplateTurn]:
        """Turns that any template takes: calls are text, and results are said by the user."""
        turns: list[TemplateTurn] = []
        was_tool = False
        for message in messages:
            text = message.text
            if message.role is Role.TOOL:
                text = f"<tool_response>\n{text}\n</tool_response>"
                if was_tool:
                    turns[-1]["content"] += f"\n{text}"
                else:
                    turns.append({"role": "user", "content": text})
            else:
                turns.append({"role": str(message.role), "content": self._with_calls(message)})
            was_tool = message.role is Role.TOOL
        return turns

    def _with_calls(self, message: Message) -> str:
        """What a message says, with its calls as text."""
        written = [self.calls.written(call.name, call.arguments) for call in message.tool_calls]
        return "\n".join([message.text] * bool(message.text) + written)

    def _explained(self, turns: list[TemplateTurn], tools: Sequence[Tool]) -> list[TemplateTurn]:
        """`turns` with the tools in words at their beginning."""
        shown = "\n".join(json.dumps(tool.described, ensure_ascii=False) for tool in tools)
        example = self.calls.written("NAME", '{"PARAMETER": VALUE}')
        words = (
            "You can call functions. These are their signatures, one a line:\n"
            f"<tools>\n{shown}\n</tools>\n\n"
            "To call one, answer with its name and its arguments, which fit its parameters, in"
            f" this form:\n{example}"
        )
        first, *others = turns
        if first["role"] == "system":
            return [{**first, "content": f"{first['content']}\n\n{words}"}, *others]
        if first["role"] == "user" and not self.habits.takes_system:
            return [{**first, "content": f"{words}\n\n{first['content']}"}, *others]
        return [{"role": "system", "content": words}, *turns]


def _one_by_one(messages: Sequence[Message]) -> list[Message]:
    """`messages` in which each call has a turn of its own, with its result behind it."""
    told: list[Message] = []
    left = list(messages)
    while left:
        message = left.pop(0)
        if len(message.tool_calls) < 2:
            told.append(message)
            continue
        results = []
        while left and left[0].role is Role.TOOL:
            results.append(left.pop(0))
        for number, call in enumerate(message.tool_calls):
            if number:
                message = replace(message, content="", reasoning=None)
            told.append(replace(message, tool_calls=(call,)))
            unnamed = [one for one in results if one.tool_call_id is None]
            own = [one for one in results if one.tool_call_id == call.id] or unnamed[:1]
            told += own
            results = [one for one in results if one not in own]
        told += results
    return told


def _with_system(turns: list[TemplateTurn]) -> list[TemplateTurn]:
    if turns and turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": ""}, *turns]


def _in_json(tools: Sequence[Tool]) -> str:
    return json.dumps([tool.function for tool in tools], ensure_ascii=False)


def _mapping(arguments: str) -> Any:
    """Arguments as templates take them; those that are no JSON of an object as they are."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments
