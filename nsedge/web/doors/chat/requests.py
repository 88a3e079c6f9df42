"""The chat service's bodies -> `Request`s; pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from nsedge.api import Chat, Media, MediaPart, Message, Part, Request, Role, TextPart
from nsedge.api.bounds import within
from nsedge.errors import BadMessage, EmptyPrompt, InvalidParameter
from nsedge.web.bodies import beyond, decode
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.chat.bodies import (
    MAX_TEMPERATURE,
    ChatBody,
    Film,
    Image,
    Turn,
    camel_case,
)
from nsedge.web.inline_media import film_in
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import SamplingFields, sampling

OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this service send fields of their own."""


def check_messages(body: ChatBody, limits: WebLimits) -> None:
    """Refuse a conversation that is empty or too long.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the limit.
    """
    if not body.messages:
        raise EmptyPrompt("messages is empty", param="messages")
    if len(body.messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(body.messages)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    check_length(sum(len(turn.content) for turn in body.messages), limits, "messages")


def chat_request(body: ChatBody, config: SamplingFields, *, model: str, label: str) -> Request:
    """What the body asks of `model`, with its `config` as `read_config` read it.

    Raises:
        InvalidParameter: naming the field and the limit.
    """
    messages = tuple(_message(number, turn) for number, turn in enumerate(body.messages))
    with _complaints_as_written():
        wanted = Request(
            request_id=label,
            model=model,
            task=Chat(messages=messages, sampling=sampling(config), constraint=constraint(config)),
            **scheduling(config),
        )
        wanted.check()
    return wanted


def read_config(body: ChatBody, limits: WebLimits) -> tuple[SamplingFields, list[str]]:
    """The `config` of a body, and its fields that are left out though nobody knows that they
    change nothing.

    Raises:
        InvalidParameter: naming one that is ill-typed, out of this service's range, or would change
            the answer and cannot be had.
    """
    fields = _snake_case(body.config or {})
    with _complaints_as_written():
        raw = msgspec.json.encode(fields)
        config = decode(raw, SamplingFields)
        within("temperature", config.temperature, 0.0, MAX_TEMPERATURE)
        passed_over = OTHERS.check(
            beyond(raw, SamplingFields),
            honoured=SamplingFields.__struct_fields__,
            ignored=limits.ignored_fields,
        )
    return config, [as_written(name) for name in passed_over]


@contextmanager
def _complaints_as_written() -> Iterator[None]:
    """Complaints name fields of `config` as its client wrote them."""
    try:
        yield
    except BadMessage as error:
        raise InvalidParameter(f"config: {error.message}", param="config") from error
    except InvalidParameter as error:
        if error.param is None:
            raise
        name = as_written(error.param)
        raise InvalidParameter(error.message.replace(error.param, name), param=name) from error


def _message(number: int, turn: Turn) -> Message:
    where = f"messages[{number}]"
    if not turn.images and not turn.videos:
        return Message(role=Role(turn.role), content=turn.content)
    parts: list[Part] = [
        MediaPart(media=Media(type=image.mime_type, data=_data(image, place)), place=place)
        for which, image in enumerate(turn.images or ())
        if (place := f"{where}.images[{which}]")
    ]
    parts += [
        _film(film, f"{where}.videos[{which}]") for which, film in enumerate(turn.videos or ())
    ]
    if turn.content:
        parts.append(TextPart(text=turn.content))
    return Message(role=Role(turn.role), content=tuple(parts))


def _film(film: Film, where: str) -> MediaPart:
    media = film_in(_data(film, where), f"{where}.data_base64", param="messages")
    return MediaPart(media=media, place=where, fps=film.fps, frames=film.frames)


def _data(medium: Image | Film, where: str) -> bytes:
    """Raises InvalidParameter where the data are no base64, or none."""
    encoded = re.sub(r"^data:[a-z0-9/]+;base64,", "", medium.data_base64)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(
            f"{where}.data_base64 is no base64: {error}", param="messages"
        ) from error
    if not data:
        raise InvalidParameter(f"{where}.data_base64 is empty", param="messages")
    return data


def _snake_case(config: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Its fields as other doors name them. Raises InvalidParameter where two are one."""
    fields: dict[str, msgspec.Raw] = {}
    written: dict[str, str] = {}
    for name, value in config.items():
        ours = _snake(name)
        if ours in fields:
            raise InvalidParameter(
                f"config.{name} is config.{written[ours]}, which is given too",
                param=f"config.{name}",
            )
        fields[ours], written[ours] = value, name
    return fields


def _snake(name: str) -> str:
    return re.sub(r"(?<=[A-Za-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def as_written(name: str) -> str:
    """The field of `config` that is `name` at other doors, as this service writes it."""
    return f"config.{camel_case(name)}"
