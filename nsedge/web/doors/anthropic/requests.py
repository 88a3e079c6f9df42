"""Anthropic's request bodies -> `Request`s; pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nsedge.api import (
    Chat,
    Constraint,
    Media,
    MediaPart,
    Message,
    Part,
    Request,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from nsedge.api.messages import joined
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.constraint_fields import check, schema_of
from nsedge.web.doors.anthropic.bodies import (
    Block,
    ChoiceBody,
    MessagesBody,
    PromptBody,
    Source,
    Thinking,
    ToolBody,
    Turn,
)
from nsedge.web.inline_media import remote
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import SamplingFields, sampling

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_CHOICES = {
    "auto": ToolChoice.AUTO,
    "any": ToolChoice.REQUIRED,
    "tool": ToolChoice.REQUIRED,
    "none": ToolChoice.NONE,
}


def messages_request(body: MessagesBody, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for. A `max_tokens` beyond the context ends with it.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    request = Request(
        request_id=request_id,
        model=body.model,
        task=chat_of(body, _sampling(body), limits),
        **scheduling(body),
    )
    request.check()
    return request


def chat_of(body: PromptBody, sampling: Sampling, limits: WebLimits) -> Chat:
    """The conversation of a body. One that ends with the assistant goes on with what it said.

    Raises as `messages_request`.
    """
    messages = conversation(body, limits)
    last = messages[-1]
    if last.role is Role.ASSISTANT and (last.tool_calls or not last.text):
        raise InvalidParameter(
            "messages: the last is the assistant's, and would be gone on with: it must hold text,"
            " and no tool_use",
            param="messages",
        )
    choice = body.tool_choice or ChoiceBody(type="auto")
    try:
        chosen = _CHOICES[choice.type]
    except KeyError:
        raise InvalidParameter(
            f"tool_choice.type must be one of {', '.join(_CHOICES)}, not {choice.type!a}",
            param="tool_choice.type",
        ) from None
    if choice.type == "tool" and choice.name is None:
        raise InvalidParameter("tool_choice.name is missing", param="tool_choice.name")
    return Chat(
        messages=messages,
        sampling=sampling,
        tools=tuple(_tool(number, tool) for number, tool in enumerate(body.tools or ())),
        tool_choice=chosen,
        tool_name=choice.name if choice.type == "tool" else None,
        parallel_tool_calls=False if choice.disable_parallel_tool_use else None,
        template_arguments=_thinking(body.thinking),
        reasoning_effort=None if body.output_config is None else body.output_config.effort,
        constraint=_constraint(body),
        continue_final_message=last.role is Role.ASSISTANT,
        split_reasoning=True,
    )


def conversation(body: PromptBody, limits: WebLimits) -> tuple[Message, ...]:
    """The messages of a body, the system's first; consecutive ones of one role are one, but for
    the results of tools.

    Raises as `messages_request`.
    """
    if not body.messages:
        raise EmptyPrompt("messages: at least one message is required", param="messages")
    if len(body.messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(body.messages)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    turns = _Turns()
    for number, turn in enumerate(body.messages):
        turns.add(turn, f"messages.{number}")
    merged = turns.messages()
    if not merged:
        raise EmptyPrompt("messages: nothing is said in any of them", param="messages")
    if system := _system(body.system):
        merged.insert(0, Message(role=Role.SYSTEM, content=system))
    check_length(sum(len(turn.text) for turn in merged), limits, "messages")
    return tuple(merged)


def _tool(number: int, tool: ToolBody) -> Tool:
    if tool.type not in (None, "custom"):
        where = f"tools.{number}.type"
        raise InvalidParameter(f"{where}: there is no {tool.type!a} here", param=where)
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.input_schema is not None:
        function["parameters"] = tool.input_schema
    return Tool(function=function, strict=bool(tool.strict))


def _thinking(thinking: Thinking | None) -> dict[str, Any]:
    """What the template is told of whether to think; adaptive is as the model has it."""
    if thinking is None or thinking.type == "adaptive":
        return {}
    if thinking.type not in ("enabled", "disabled"):
        raise InvalidParameter(
            f"thinking.type must be enabled, disabled or adaptive, not {thinking.type!a}",
            param="thinking.type",
        )
    return {"enable_thinking": thinking.type == "enabled"}


def _constraint(body: PromptBody) -> Constraint | None:
    field, wanted = "output_config.format", None
    if body.output_config is not None:
        wanted = body.output_config.format
    if body.output_format is not None:
        if wanted is not None:
            raise InvalidParameter(f"output_format and {field} are the same: give one", param=field)
        field, wanted = "output_format", body.output_format
    if wanted is None:
        return None
    if wanted.type != "json_schema" or wanted.schema is None:
        raise InvalidParameter(
            f"{field} must be of type json_schema, and have a schema", param=field
        )
    held = schema_of(wanted.schema)
    check(held, field)
    return held


def _sampling(body: MessagesBody) -> Sampling:
    fields = SamplingFields(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        stop=body.stop_sequences,
        max_tokens=body.max_tokens,
        clip_max_tokens=True,
    )
    try:
        return sampling(fields)
    except InvalidParameter as error:
        if error.param == "stop":
            raise InvalidParameter(error.message, param="stop_sequences") from error
        raise


def _system(given: str | list[Block] | None) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    return joined(_text(block, f"system.{number}") for number, block in enumerate(given))


@dataclass(kw_only=True)
class _Turn:
    """What one role says before another does."""

    role: Role
    parts: list[Part] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None

    def message(self) -> Message:
        return Message(
            role=self.role,
            content=_content(self.parts),
            tool_calls=tuple(self.calls),
            tool_call_id=self.tool_call_id,
            name=self.name,
            reasoning="\n".join(self.thoughts) or None,
        )


class _Turns:
    """Blocks in their order -> turns: a tool's result is one of its own."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []
        self._names: dict[str, str] = {}

    def messages(self) -> list[Message]:
        """All that was added."""
        return [turn.message() for turn in self._turns]

    def add(self, turn: Turn, where: str) -> None:
        """Add a message. Raises InvalidParameter."""
        role = _ROLES.get(turn.role)
        if role is None:
            raise InvalidParameter(
                f"{where}.role: must be one of {', '.join(_ROLES)}, not {turn.role!r}",
                param=f"{where}.role",
            )
        if isinstance(turn.content, str):
            self._of(role).parts.append(TextPart(text=turn.content))
            return
        if not turn.content and role is not Role.ASSISTANT:
            raise EmptyPrompt(f"{where}.content is empty", param=f"{where}.content")
        for number, block in enumerate(turn.content):
            self._add_block(role, block, f"{where}.content.{number}")

    def _of(self, role: Role) -> _Turn:
        if not self._turns or self._turns[-1].role is not role:
            self._turns.append(_Turn(role=role))
        return self._turns[-1]

    def _add_block(self, role: Role, block: Block, where: str) -> None:
        match block.type, role:
            case "image", _:
                part = MediaPart(media=_picture(block.source, f"{where}.source"), place=where)
                self._of(role).parts.append(part)
            case "thinking", Role.ASSISTANT:
                self._of(role).thoughts.append(block.thinking or "")
            case "redacted_thinking", Role.ASSISTANT:
                pass  # nobody but Anthropic can read it
            case "tool_use", Role.ASSISTANT:
                self._call(block, where)
            case "tool_result", Role.USER:
                self._result(block, where)
            case _:
                self._of(role).parts.append(TextPart(text=_text(block, where)))

    def _call(self, block: Block, where: str) -> None:
        if block.id is None or block.name is None:
            raise InvalidParameter(f"{where}: tool_use wants an id and a name", param=where)
        self._names[block.id] = block.name
        arguments = msgspec.json.encode(block.input or {}).decode()
        call = ToolCall(id=block.id, name=block.name, arguments=arguments)
        self._of(Role.ASSISTANT).calls.append(call)

    def _result(self, block: Block, where: str) -> None:
        if block.tool_use_id not in self._names:
            raise InvalidParameter(
                f"{where}.tool_use_id: no tool_use before it has the id {block.tool_use_id!a}",
                param=f"{where}.tool_use_id",
            )
        given = block.content or ""
        parts = (
            [TextPart(text=given)]
            if isinstance(given, str)
            else [
                TextPart(text=_text(one, f"{where}.content.{number}"))
                for number, one in enumerate(given)
            ]
        )
        name = self._names[block.tool_use_id]
        self._turns.append(
            _Turn(role=Role.TOOL, parts=[*parts], tool_call_id=block.tool_use_id, name=name)
        )


def _text(block: Block, where: str) -> str:
    if block.type != "text":
        raise InvalidParameter(
            f"{where}: blocks of type {block.type!r} are not supported here", param=where
        )
    if block.text is None:
        raise InvalidParameter(f"{where}.text is missing", param=f"{where}.text")
    return block.text


def _picture(source: Source | None, where: str) -> Media:
    if source is not None and source.type == "url" and source.url is not None:
        if (media := remote(source.url, "image")) is None:
            raise InvalidParameter(f"{where}.url: a URL is http or https", param=f"{where}.url")
        return media
    if source is None or source.type != "base64" or source.data is None or not source.media_type:
        raise InvalidParameter(
            f"{where}: a picture comes as base64, with its media_type, or as a url", param=where
        )
    try:
        data = b64decode(source.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"{where}.data is not base64", param=f"{where}.data") from error
    return Media(type=source.media_type, data=data)


def _content(parts: Sequence[Part]) -> str | tuple[Part, ...]:
    """A text where there is nothing else."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return joined(texts) if len(texts) == len(parts) else tuple(parts)
