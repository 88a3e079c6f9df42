"""Ollama's request bodies -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nsedge.api import (
    Chat,
    Constraint,
    Embed,
    Generate,
    Media,
    MediaPart,
    Message,
    ModelInfo,
    Part,
    Request,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from nsedge.api.inputs import MAX_INPUTS
from nsedge.api.models import keep_alive_of
from nsedge.api.scheduling import SchedulingFields
from nsedge.errors import InvalidParameter
from nsedge.web.constraint_fields import check, schema_of
from nsedge.web.doors.ollama.bodies import (
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    Format,
    GenerateBody,
    OllamaBody,
    ToolBody,
    Turn,
    WritingBody,
)
from nsedge.web.inline_media import decoded, sniffed
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length


def generate_request(
    body: GenerateBody, model: ModelInfo, sampling: Sampling, label: str, limits: WebLimits
) -> Request:
    """The request of a body with a prompt.

    Raises:
        InvalidParameter, MessageTooLarge: naming the field and the limit.
    """
    prompt, system = body.prompt or "", body.system or ""
    check_length(len(prompt) + len(system), limits, "prompt")
    images, held = _parts(body.images, "images"), _constraint(body.format)
    task: Generate | Chat
    if body.raw or body.suffix or not model.has_chat_template:
        for name, given in (("system", system), ("images", images)):
            if given:
                raise InvalidParameter(
                    f"{name} needs a chat template, which is not applied here", param=name
                )
        suffix = body.suffix or None
        task = Generate(text=prompt, suffix=suffix, sampling=sampling, constraint=held)
    else:
        turns = [Message(role=Role.USER, content=_content(prompt, images))]
        if system:
            turns.insert(0, Message(role=Role.SYSTEM, content=system))
        task = Chat(messages=tuple(turns), sampling=sampling, constraint=held, **_thinking(body))
    return _checked(Request(request_id=label, model=model.name, task=task, **_scheduling(body)))


def chat_request(
    body: ChatBody, model: str, sampling: Sampling, label: str, limits: WebLimits
) -> Request:
    """The request of a body with messages.

    Raises:
        InvalidParameter, MessageTooLarge: naming the field and the limit.
    """
    turns = body.messages or []
    if len(turns) > limits.max_messages:
        raise InvalidParameter(
            f"{len(turns)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    check_length(sum(len(turn.content or "") for turn in turns), limits, "messages")
    messages = tuple(_message(turn, f"messages[{number}]") for number, turn in enumerate(turns))
    task = Chat(
        messages=messages,
        sampling=sampling,
        constraint=_constraint(body.format),
        tools=tuple(Tool(function=_function(n, one)) for n, one in enumerate(body.tools or ())),
        **_thinking(body),
    )
    return _checked(Request(request_id=label, model=model, task=task, **_scheduling(body)))


def embed_request(
    body: EmbedBody | EmbeddingsBody, model: str, label: str, limits: WebLimits
) -> Request:
    """The request for vectors; what is longer than the model reads is cut off unless `truncate`
    says not to, as at Ollama.

    Raises:
        InvalidParameter, MessageTooLarge: naming the field and the limit.
    """
    if isinstance(body, EmbeddingsBody):
        field, texts, dimensions, truncate = "prompt", [body.prompt], None, True
    else:
        field, dimensions = "input", body.dimensions
        texts = [body.input] if isinstance(body.input, str) else body.input
        truncate = body.truncate is not False
    if len(texts) > MAX_INPUTS:
        raise InvalidParameter(
            f"{len(texts)} inputs are beyond the limit of {MAX_INPUTS}", param=field
        )
    for number, text in enumerate(texts):
        if not text:
            raise InvalidParameter(f"{field}[{number}] is empty", param=field)
    check_length(sum(map(len, texts)), limits, field)
    task = Embed(inputs=tuple(texts), dimensions=dimensions, truncate=truncate)
    return _checked(Request(request_id=label, model=model, task=task, **_scheduling(body)))


def keep_alive_s(body: OllamaBody) -> float | None:
    """How long the model is to stay unused, in seconds. Raises InvalidParameter."""
    return None if body.keep_alive is None else keep_alive_of(body.keep_alive)


def _constraint(wanted: Format) -> Constraint | None:
    """What `format` asks for; an empty one asks for nothing, as at Ollama."""
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return Constraint.json_object()
    if isinstance(wanted, str):
        raise InvalidParameter("format must be json, or a JSON schema", param="format")
    held = schema_of(wanted)
    check(held, "format")
    return held


def _scheduling(body: OllamaBody) -> SchedulingFields:
    return {"keep_alive_s": keep_alive_s(body)}


def _checked(request: Request) -> Request:
    request.check()
    return request


def _message(turn: Turn, where: str) -> Message:
    try:
        role = Role(turn.role)
    except ValueError as error:
        raise InvalidParameter(
            f"{where}.role must be one of {', '.join(Role)}, not {turn.role!r}",
            param=f"{where}.role",
        ) from error
    images = _parts(turn.images, f"{where}.images")
    return Message(
        role=role,
        content=_content(turn.content or "", images),
        tool_calls=tuple(
            ToolCall(
                id=call.id or f"{where}.tool_calls[{number}]",
                name=call.function.name,
                arguments=msgspec.json.encode(call.function.arguments).decode(),
            )
            for number, call in enumerate(turn.tool_calls or ())
        ),
        tool_call_id=turn.tool_call_id,
        name=turn.tool_name,
        reasoning=turn.thinking or None,
    )


def _function(number: int, tool: ToolBody) -> dict[str, Any]:
    if tool.type != "function":
        where = f"tools[{number}].type"
        raise InvalidParameter(f"{where} must be function, not {tool.type!a}", param=where)
    return tool.function


def _thinking(body: WritingBody) -> dict[str, Any]:
    """What a model thinks always comes apart; whether it does is for its template, where the body
    says something of it."""
    if body.think is None:
        return {"split_reasoning": True}
    if isinstance(body.think, str):
        return {"split_reasoning": True, "reasoning_effort": body.think}
    return {"split_reasoning": True, "template_arguments": {"enable_thinking": body.think}}


def _content(text: str, images: Sequence[Part]) -> str | tuple[Part, ...]:
    return (*images, TextPart(text=text)) if images else text


def _parts(images: list[str] | None, where: str) -> tuple[Part, ...]:
    return tuple(
        MediaPart(media=_picture(given, f"{where}[{number}]"), place=f"{where}[{number}]")
        for number, given in enumerate(images or ())
    )


def _picture(given: str, where: str) -> Media:
    return sniffed(decoded(given, where, param=where), where, param=where)
