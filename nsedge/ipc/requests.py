"""Requests to messages and back."""

from __future__ import annotations

from nsedge import api
from nsedge.api.scheduling import scheduling_of
from nsedge.errors import InvalidRequest, UnsupportedVersion
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol

_SINCE: dict[type, int] = {wire.Embed: 3}
"""The minor version whose clients can read what comes of a task, where not all can."""
MAX_ID = 128
MAX_MODEL = 256


def request_of(message: wire.Asking) -> api.Request:
    """The request that a message asks for."""
    return api.Request(
        request_id=message.id,
        model=message.model,
        task=_task_of(message),
        **scheduling_of(message),
    )


def check_readable(message: wire.Asking, minor: int) -> None:
    """Refuse a task whose results a client of protocol 1.`minor` cannot read.

    Raises:
        UnsupportedVersion: naming the version that can.
    """
    since = _SINCE.get(type(message), 0)
    if since > minor:
        task = message.__struct_config__.tag
        raise UnsupportedVersion(
            f"{task} needs protocol 1.{since}; this client said 1.{minor}", param="type"
        )


def _task_of(message: wire.Asking) -> api.Task:
    match message:
        case wire.Generate():
            return api.Generate(text=message.text, sampling=message.sampling)
        case wire.Chat():
            turns = tuple(api.Message(role=m.role, content=m.content) for m in message.messages)
            return api.Chat(messages=turns, sampling=message.sampling)
        case wire.Embed():
            return api.Embed(
                inputs=message.inputs, dimensions=message.dimensions, truncate=message.truncate
            )


def encode_request(request: api.Request, *, credit: int | None = None) -> bytes:
    """The payload frame that asks for a request, with `credit` bytes to begin with.

    Raises:
        InvalidParameter: a parameter out of range.
        InvalidRequest: the id or the model's name is empty or too long, or a text is not Unicode.
    """
    request.check()
    for param, text, limit in (
        ("id", request.request_id, MAX_ID),
        ("model", request.model, MAX_MODEL),
    ):
        if not 1 <= len(text) <= limit:
            raise InvalidRequest(f"{param} must have 1 to {limit} characters", param=param)
    try:
        return protocol.encode(_message_of(request, credit))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"the request cannot be written: {error}") from error


def _message_of(request: api.Request, credit: int | None) -> wire.Asking:
    label, model, scheduling = request.request_id, request.model, scheduling_of(request)
    match request.task:
        case api.Generate(text=text, sampling=sampling):
            return wire.Generate(
                id=label, model=model, credit=credit, text=text, sampling=sampling, **scheduling
            )
        case api.Chat(messages=messages, sampling=sampling):
            turns = tuple(map(_turn, messages))
            return wire.Chat(
                id=label,
                model=model,
                credit=credit,
                messages=turns,
                sampling=sampling,
                **scheduling,
            )
        case api.Embed(inputs=inputs, dimensions=dimensions, truncate=truncate):
            return wire.Embed(
                id=label,
                model=model,
                credit=credit,
                inputs=inputs,
                dimensions=dimensions,
                truncate=truncate,
                **scheduling,
            )


def _turn(message: api.Message) -> wire.Message:
    if not isinstance(message.content, str):
        raise InvalidRequest("the protocol has no message for parts", param="messages")
    return wire.Message(role=message.role, content=message.content)
