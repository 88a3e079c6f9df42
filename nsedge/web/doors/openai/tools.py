"""Tools, calls and reasoning as OpenAI's bodies ask for them -> fields of a `Chat`; pure."""

from __future__ import annotations

from typing import Any

from nsedge.api import Tool, ToolCall, ToolChoice
from nsedge.errors import InvalidParameter
from nsedge.web.doors.openai.bodies import CallBody, ChatBody, ToolBody

_REASONING = {"none": False, "auto": True, "deepseek": True}
"""llama.cpp's names of whether thoughts are told apart."""


def chat_fields(body: ChatBody) -> dict[str, Any]:
    """The fields of a `Chat` beside its messages and sampling.

    Raises:
        InvalidParameter: naming the field as the body wrote it.
    """
    tools = tuple(_tool(number, tool) for number, tool in enumerate(body.tools or ()))
    choice, name, allowed = _choice(body.tool_choice)
    if allowed is not None:
        tools = _allowed(tools, allowed)
    continues = bool(body.continue_final_message) or _continues(body)
    if continues and body.add_generation_prompt:
        raise InvalidParameter(
            "continue_final_message goes on with a turn, add_generation_prompt begins one",
            param="continue_final_message",
        )
    arguments = dict(body.chat_template_kwargs or {})
    if body.enable_thinking is not None:
        arguments.setdefault("enable_thinking", body.enable_thinking)
    return {
        "tools": tools,
        "tool_choice": choice,
        "tool_name": name,
        "parallel_tool_calls": body.parallel_tool_calls,
        "documents": tuple(body.documents or ()),
        "template_arguments": arguments,
        "reasoning_effort": body.reasoning_effort,
        "add_generation_prompt": body.add_generation_prompt is not False,
        "continue_final_message": continues,
        "split_reasoning": _splits(body.reasoning_format),
    }


def calls_of(calls: list[CallBody] | None, where: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message.

    Raises:
        InvalidParameter: one is of no function.
    """
    for number, call in enumerate(calls or ()):
        if call.type != "function":
            at = f"{where}[{number}].type"
            raise InvalidParameter(f"{at} must be function, not {call.type!a}", param=at)
    return tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in calls or ()
    )


def _tool(number: int, tool: ToolBody) -> Tool:
    where = f"tools[{number}]"
    if tool.type != "function" or tool.function is None:
        raise InvalidParameter(
            f"{where}: tools of type {tool.type!a} are not supported, only function", param=where
        )
    function = dict(tool.function)
    strict = function.pop("strict", None)
    if strict not in (None, True, False):
        raise InvalidParameter(f"{where}.function.strict must be true or false", param=where)
    return Tool(function=function, strict=bool(strict))


def _choice(
    given: str | dict[str, Any] | None,
) -> tuple[ToolChoice, str | None, list[Any] | None]:
    """The choice, the tool that it names, and the tools that it allows, where it says so."""
    if given is None:
        return ToolChoice.AUTO, None, None
    match given:
        case str() if given in set(ToolChoice):
            return ToolChoice(given), None, None
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice.REQUIRED, name, None
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode), "tools": list(tools)}}:
            if mode in ("auto", "required"):
                return ToolChoice(mode), None, tools
    raise InvalidParameter(
        f"tool_choice must be {', '.join(ToolChoice)}, or name a function, not {given!a}",
        param="tool_choice",
    )


def _allowed(tools: tuple[Tool, ...], allowed: list[Any]) -> tuple[Tool, ...]:
    known = {tool.name: tool for tool in tools if "name" in tool.function}
    kept = []
    for one in allowed:
        match one:
            case {"type": "function", "function": {"name": str(name)}} if name in known:
                kept.append(known[name])
            case _:
                raise InvalidParameter(
                    f"tool_choice allows what is none of the tools: {one!a}", param="tool_choice"
                )
    return tuple(kept)


def _continues(body: ChatBody) -> bool:
    """Whether a message says that it is to be continued, which only the last can."""
    for number, turn in enumerate(body.messages):
        for field in ("prefix", "partial"):
            if getattr(turn, field):
                if number < len(body.messages) - 1:
                    at = f"messages[{number}].{field}"
                    raise InvalidParameter(f"{at}: only the last can be continued", param=at)
                return True
    return False


def _splits(form: str | None) -> bool:
    try:
        return _REASONING[form or "auto"]
    except KeyError:
        raise InvalidParameter(
            f"reasoning_format must be one of {', '.join(_REASONING)}, not {form!a}",
            param="reasoning_format",
        ) from None
