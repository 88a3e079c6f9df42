"""Anthropic's request bodies -> `Request`s; pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterator, Sequence
from itertools import groupby

from nsedge.api import Chat, Media, MediaPart, Message, Part, Request, Role, Sampling, TextPart
from nsedge.api.messages import joined
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.doors.anthropic.bodies import Block, MessagesBody, PromptBody, Source, Turn
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import SamplingFields, sampling

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_THOUGHTS = ("thinking", "redacted_thinking")
"""Blocks of earlier turns that no model reads again."""


def messages_request(body: MessagesBody, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for. A `max_tokens` beyond the context ends with it.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    request = Request(
        request_id=request_id,
        model=body.model,
        task=Chat(messages=conversation(body, limits), sampling=_sampling(body)),
        **scheduling(body),
    )
    request.check()
    return request


def conversation(body: PromptBody, limits: WebLimits) -> tuple[Message, ...]:
    """The messages of a body, the system's first; consecutive ones of one role are one.

    Raises as `messages_request`.
    """
    if not body.messages:
        raise EmptyPrompt("messages: at least one message is required", param="messages")
    if len(body.messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(body.messages)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    turns = [_turn(number, turn) for number, turn in enumerate(body.messages)]
    if turns[-1][0] is Role.ASSISTANT:
        raise InvalidParameter(
            "messages: to go on with a last message of the assistant's is not supported here",
            param="messages",
        )
    merged = [
        Message(role=role, content=_content([part for _, parts in some for part in parts]))
        for role, some in groupby(turns, key=lambda turn: turn[0])
    ]
    if system := _system(body.system):
        merged.insert(0, Message(role=Role.SYSTEM, content=system))
    check_length(sum(len(turn.text) for turn in merged), limits, "messages")
    return tuple(merged)


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


def _turn(number: int, turn: Turn) -> tuple[Role, Sequence[Part]]:
    where = f"messages.{number}"
    role = _ROLES.get(turn.role)
    if role is None:
        raise InvalidParameter(
            f"{where}.role: must be one of {', '.join(_ROLES)}, not {turn.role!r}",
            param=f"{where}.role",
        )
    if isinstance(turn.content, str):
        return role, [TextPart(text=turn.content)]
    return role, list(_parts(turn.content, f"{where}.content"))


def _parts(blocks: list[Block], where: str) -> Iterator[Part]:
    for number, block in enumerate(blocks):
        place = f"{where}.{number}"
        if block.type == "image":
            yield MediaPart(media=_picture(block.source, f"{place}.source"))
        elif block.type not in _THOUGHTS:
            yield TextPart(text=_text(block, place))


def _text(block: Block, where: str) -> str:
    if block.type != "text":
        raise InvalidParameter(
            f"{where}: blocks of type {block.type!r} are not supported here", param=where
        )
    if block.text is None:
        raise InvalidParameter(f"{where}.text is missing", param=f"{where}.text")
    return block.text


def _picture(source: Source | None, where: str) -> Media:
    if source is None or source.type != "base64" or source.data is None or not source.media_type:
        raise InvalidParameter(
            f"{where}: a picture comes as base64, with its media_type", param=where
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
