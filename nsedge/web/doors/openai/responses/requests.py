"""Bodies of OpenAI's responses -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nsedge import api
from nsedge.api import (
    Chat,
    Constraint,
    MediaPart,
    Message,
    Request,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)
from nsedge.api.messages import joined
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.constraint_fields import check, constraint, schema_of
from nsedge.web.doors.openai.parts import content_of, shown
from nsedge.web.doors.openai.responses.bodies import (
    INCLUDED,
    LOGPROBS,
    Item,
    Part,
    ResponsesBody,
    TextFormat,
    ToolBody,
)
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import sampling

_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}
_TEXTS = ("input_text", "output_text", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a body asks for: the conversation without its instructions, which are not handed on, and
    the request."""

    messages: tuple[Message, ...]
    request: Request


def asked_of(
    body: ResponsesBody, before: Sequence[Message], request_id: str, limits: WebLimits
) -> Asked:
    """What a body asks for, after the conversation `before`.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    messages = (*before, *_messages(body.input))
    if not messages:
        raise EmptyPrompt("input is empty", param="input")
    if len(messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(messages)} messages are beyond the limit of {limits.max_messages}", param="input"
        )
    said = messages
    if body.instructions:
        said = (Message(role=Role.SYSTEM, content=body.instructions), *messages)
    check_length(sum(len(one.text) for one in said), limits, "input")
    choice, name = _choice(body.tool_choice)
    task = Chat(
        messages=said,
        sampling=_sampling(body),
        tools=tuple(_tool(number, tool) for number, tool in enumerate(body.tools or ())),
        tool_choice=choice,
        tool_name=name,
        parallel_tool_calls=body.parallel_tool_calls,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        constraint=_constraint(body),
        split_reasoning=True,
    )
    request = Request(request_id=request_id, model=body.model, task=task, **scheduling(body))
    request.check()
    return Asked(messages=messages, request=request)


def tells_logprobs(body: ResponsesBody) -> bool:
    """Whether the log-probabilities of tokens are asked for."""
    return LOGPROBS in (body.include or ())


def _sampling(body: ResponsesBody) -> Sampling:
    for wanted in body.include or ():
        if wanted not in INCLUDED:
            raise InvalidParameter(
                f"include can have {', '.join(INCLUDED)}, not {wanted[:64]!a}", param="include"
            )
    if body.top_logprobs and not tells_logprobs(body):
        raise InvalidParameter(f"top_logprobs wants include: {LOGPROBS}", param="top_logprobs")
    for other in ("max_tokens", "max_completion_tokens"):
        if getattr(body, other) is not None:
            raise InvalidParameter(f"{other} is max_output_tokens here", param=other)
    fields = msgspec.structs.replace(body, max_tokens=body.max_output_tokens)
    told = (body.top_logprobs or 0) if tells_logprobs(body) else None
    try:
        return sampling(fields, logprobs=told)
    except InvalidParameter as error:
        if error.param == "max_tokens":
            message = error.message.replace("max_tokens", "max_output_tokens", 1)
            raise InvalidParameter(message, param="max_output_tokens") from error
        raise


def _constraint(body: ResponsesBody) -> Constraint | None:
    wanted = None if body.text is None else body.text.format
    held = None if wanted is None else _of_format(wanted)
    other = constraint(body)
    if held is not None and other is not None:
        raise InvalidParameter(
            "text.format and another field both say what the answer must look like", param="text"
        )
    return held or other


def _of_format(wanted: TextFormat) -> Constraint | None:
    field = "text.format"
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return Constraint.json_object()
        case "json_schema" if wanted.schema is not None:
            held = schema_of(wanted.schema)
            check(held, f"{field}.schema")
            return held
    raise InvalidParameter(
        f"{field} must be of type text, json_object, or json_schema with a schema", param=field
    )


def _tool(number: int, tool: ToolBody) -> Tool:
    where = f"tools[{number}]"
    if tool.type != "function":
        raise InvalidParameter(
            f"{where}: tools of type {tool.type[:64]!a} are not supported, only function",
            param=where,
        )
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return Tool(function=function, strict=bool(tool.strict))


def _choice(given: str | dict[str, Any] | None) -> tuple[ToolChoice, str | None]:
    match given:
        case None:
            return ToolChoice.AUTO, None
        case str() if given in set(ToolChoice):
            return ToolChoice(given), None
        case {"type": "function", "name": str(name)}:
            return ToolChoice.REQUIRED, name
    raise InvalidParameter(
        f"tool_choice must be {', '.join(ToolChoice)}, or name a function, not {given!a}",
        param="tool_choice",
    )


def _messages(given: str | list[Item]) -> list[Message]:
    """The turns of `input`. Calls, and what was thought, stand with what the assistant says
    next to them."""
    if isinstance(given, str):
        return [Message(role=Role.USER, content=given)] if given else []
    turns: list[Message] = []
    names: dict[str, str] = {}
    for number, item in enumerate(given):
        turn = _turn(item, f"input[{number}]", names)
        if turn is None:
            continue
        last = turns[-1] if turns else None
        if turn.role is Role.ASSISTANT and last is not None and last.role is Role.ASSISTANT:
            turns[-1] = _with(last, turn)
        else:
            turns.append(turn)
    return turns


def _with(first: Message, more: Message) -> Message:
    return Message(
        role=Role.ASSISTANT,
        content=joined(text for text in (first.text, more.text) if text),
        tool_calls=(*first.tool_calls, *more.tool_calls),
        reasoning=joined(one for one in (first.reasoning, more.reasoning) if one) or None,
    )


def _turn(item: Item, where: str, names: dict[str, str]) -> Message | None:
    match item.type:
        case "message":
            role = _ROLES.get(item.role or "")
            if role is None:
                raise InvalidParameter(
                    f"{where}.role must be one of {', '.join(_ROLES)}, not {item.role!a}",
                    param=f"{where}.role",
                )
            return Message(role=role, content=_content(item.content, f"{where}.content"))
        case "function_call":
            if not (item.call_id and item.name and item.arguments is not None):
                raise InvalidParameter(
                    f"{where}: a function_call wants call_id, name and arguments", param=where
                )
            names[item.call_id] = item.name
            call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
            return Message(role=Role.ASSISTANT, content="", tool_calls=(call,))
        case "function_call_output":
            if not item.call_id:
                raise InvalidParameter(f"{where}.call_id is missing", param=f"{where}.call_id")
            return Message(
                role=Role.TOOL,
                content=_text(item.output, f"{where}.output"),
                tool_call_id=item.call_id,
                name=names.get(item.call_id),
            )
        case "reasoning":
            parts = item.content if isinstance(item.content, list) else []
            thought = joined(part.text for part in parts if part.text)
            if not thought:
                return None
            return Message(role=Role.ASSISTANT, content="", reasoning=thought)
    raise InvalidParameter(
        f"{where}: items of type {item.type[:64]!a} are not supported here", param=where
    )


def _content(content: str | list[Part] | None, where: str) -> str | tuple[api.Part, ...]:
    """What a message says and shows."""
    if content is None or isinstance(content, str):
        return _text(content, where)
    return content_of(_part(part, f"{where}[{number}]") for number, part in enumerate(content))


def _text(content: str | list[Part] | None, where: str) -> str:
    """What a tool gave, which is text."""
    if content is None:
        raise InvalidParameter(f"{where} is missing", param=where)
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{where}[{number}]") for number, part in enumerate(content)]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise InvalidParameter(f"{where}: a tool gives text", param=where)
    return joined(texts)


def _part(part: Part, where: str) -> str | MediaPart:
    if part.type in _TEXTS and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None:
        return part.refusal
    return shown(part, where)
