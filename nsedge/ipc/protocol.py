"""The envelope: frames in, messages out, and back. No sockets, no state.

A ZeroMQ message is `[b"nsedge/1", payload, ...]`: the first frame names the protocol and its major
version, each further one is a msgpack map (see `messages`). docs/protocol.md is the specification.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgpack
import msgspec

from nsedge import api
from nsedge.errors import (
    BadMessage,
    InvalidRequest,
    MessageTooLarge,
    NsedgeError,
    UnsupportedVersion,
    of_code,
)
from nsedge.ipc import messages as wire

VERSION = "1.3"
MINOR = 3
MAJOR = 1
MAGIC = b"nsedge/1"

_PREFIX = b"nsedge/"
_PATH = re.compile(r"at `(?:key in )?\$\.?([^`]*)`$|required field `([^`]+)`")


_PLAIN = (bytes,)
"""What msgpack holds as it is, beside the types of JSON."""


class _Labelled(msgspec.Struct):
    id: wire.Id | None = None


def encode(message: wire.ClientMessage | wire.ServerMessage) -> bytes:
    """One payload frame."""
    return _pack(msgspec.to_builtins(message, builtin_types=_PLAIN))


def open_envelope(frames: Sequence[bytes], *, max_frames: int, max_bytes: int) -> Sequence[bytes]:
    """The payload frames of a message.

    Raises:
        BadMessage: not a message of this protocol, or more than `max_frames` payload frames.
        UnsupportedVersion: another major version.
        MessageTooLarge: more than `max_bytes` in all.
    """
    magic = frames[0] if frames else b""
    if magic != MAGIC:
        if magic.startswith(_PREFIX) and magic[len(_PREFIX) :].isdigit() and len(magic) < 16:
            raise UnsupportedVersion(
                f"this side speaks {MAGIC.decode()}, not {magic.decode()}", param="protocol"
            )
        raise BadMessage(f"the first frame is not {MAGIC.decode()}")
    if not 2 <= len(frames) <= max_frames + 1:
        raise BadMessage(f"a message has 1 to {max_frames} payload frames, not {len(frames) - 1}")
    size = sum(map(len, frames))
    if size > max_bytes:
        raise MessageTooLarge(f"the message has {size} bytes; the limit is {max_bytes}")
    return frames[1:]


def decode_data(frame: bytes) -> wire.DataMessage:
    """What a client says on the data socket. Raises BadMessage, naming the field at fault."""
    message: wire.DataMessage = _decode(frame, wire.DataMessage)
    return message


def decode_control(frame: bytes) -> wire.ControlMessage:
    """What a client says on the control socket. Raises BadMessage, naming the field at fault."""
    message: wire.ControlMessage = _decode(frame, wire.ControlMessage)
    return message


def decode_server(frame: bytes) -> wire.ServerMessage:
    """What a server says. Raises BadMessage, naming the field at fault."""
    message: wire.ServerMessage = _decode(frame, wire.ServerMessage)
    return message


def readable_id(frame: bytes) -> str | None:
    """The `id` of a payload that does not decode otherwise, None where even that is unreadable."""
    try:
        labelled: _Labelled = _decode(frame, _Labelled)
    except BadMessage:
        return None
    return labelled.id


def check_version(protocol: str) -> None:
    """Raises UnsupportedVersion for a peer of another major version."""
    if int(protocol.split(".")[0]) != MAJOR:
        raise UnsupportedVersion(
            f"this side speaks protocol {VERSION}, not {protocol}", param="protocol"
        )


def minor_of(protocol: str) -> int:
    """The minor version that a peer says it speaks."""
    return int(protocol.split(".")[1])


def request_of(message: wire.Generate | wire.Chat) -> api.Request:
    """The request that a message asks for."""
    task: api.Task
    if isinstance(message, wire.Generate):
        task = api.Generate(text=message.text, sampling=message.sampling)
    else:
        turns = tuple(api.Message(role=m.role, content=m.content) for m in message.messages)
        task = api.Chat(messages=turns, sampling=message.sampling)
    return api.Request(
        request_id=message.id,
        model=message.model,
        task=task,
        priority=message.priority,
        deadline_s=message.deadline_s,
        keep_alive_s=message.keep_alive_s,
        traceparent=message.traceparent,
    )


def encode_request(request: api.Request, *, credit: int | None = None) -> bytes:
    """The payload frame that asks for a request, with `credit` bytes to begin with.

    Raises:
        InvalidParameter: a parameter out of range.
        InvalidRequest: the id or the model's name is empty or too long, or a text is not Unicode.
    """
    request.check()
    for param, text, limit in (("id", request.request_id, 128), ("model", request.model, 256)):
        if not 1 <= len(text) <= limit:
            raise InvalidRequest(f"{param} must have 1 to {limit} characters", param=param)
    message: wire.Generate | wire.Chat
    task = request.task
    if isinstance(task, api.Generate):
        message = wire.Generate(
            id=request.request_id,
            model=request.model,
            text=task.text,
            sampling=task.sampling,
            credit=credit,
            priority=request.priority,
            deadline_s=request.deadline_s,
            keep_alive_s=request.keep_alive_s,
            traceparent=request.traceparent,
        )
    elif isinstance(task, api.Chat):
        message = wire.Chat(
            id=request.request_id,
            model=request.model,
            messages=tuple(map(_turn, task.messages)),
            sampling=task.sampling,
            credit=credit,
            priority=request.priority,
            deadline_s=request.deadline_s,
            keep_alive_s=request.keep_alive_s,
            traceparent=request.traceparent,
        )
    else:
        raise InvalidRequest(f"the protocol has no message for {task.name}", param="task")
    try:
        return encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"the request cannot be written: {error}") from error


def _turn(message: api.Message) -> wire.Message:
    if not isinstance(message.content, str):
        raise InvalidRequest("the protocol has no message for parts", param="messages")
    return wire.Message(role=message.role, content=message.content)


def encode_delta(event: api.Delta) -> bytes:
    """The payload frame of a piece of text; apart from the others, since it is the busiest."""
    return _pack(
        {
            "type": "delta",
            "id": event.request_id,
            "seq": event.seq,
            "text": event.text,
            "token_ids": event.token_ids,
        }
    )


def encode_event(event: api.Event) -> bytes:
    """The payload frame of an event."""
    match event:
        case api.Delta():
            return encode_delta(event)
        case api.Loading():
            return encode(
                wire.Loading(
                    id=event.request_id,
                    model=event.model,
                    state=event.state,
                    position=event.position,
                    progress=event.progress,
                )
            )
        case api.Started():
            return encode(
                wire.Started(
                    id=event.request_id, prompt_tokens=event.prompt_tokens, queue_s=event.queue_s
                )
            )
        case api.Finished():
            return encode(
                wire.Finished(
                    id=event.request_id,
                    reason=event.reason,
                    usage=event.usage,
                    timings=event.timings,
                    stop=event.stop,
                    clipped_max_tokens=event.clipped_max_tokens,
                )
            )
        case api.Failed():
            return encode(failed_of(event))
        case _:
            raise InvalidRequest(f"the protocol has no message for {type(event).__name__}")


def failed_of(event: api.Failed) -> wire.Failed:
    """The message that tells of a failure."""
    return wire.Failed(
        id=event.request_id,
        code=event.code,
        message=event.message,
        retryable=event.retryable,
        param=event.param,
        retry_after_s=event.retry_after_s,
        figures=event.figures,
    )


def event_of(
    message: wire.Loading | wire.Started | wire.Delta | wire.Finished | wire.Failed,
) -> api.Event:
    """The event that a message carries."""
    match message:
        case wire.Delta(id=label, seq=seq, text=text, token_ids=token_ids):
            return api.Delta(request_id=label, seq=seq, text=text, token_ids=token_ids)
        case wire.Loading():
            return api.Loading(
                request_id=message.id,
                model=message.model,
                state=message.state,
                position=message.position,
                progress=message.progress,
            )
        case wire.Started():
            return api.Started(
                request_id=message.id, prompt_tokens=message.prompt_tokens, queue_s=message.queue_s
            )
        case wire.Finished():
            return api.Finished(
                request_id=message.id,
                reason=message.reason,
                usage=message.usage,
                timings=message.timings,
                stop=message.stop,
                clipped_max_tokens=message.clipped_max_tokens,
            )
        case wire.Failed():
            return api.Failed(
                request_id=message.id,
                code=message.code,
                message=message.message,
                retryable=message.retryable,
                param=message.param,
                retry_after_s=message.retry_after_s,
                figures=message.figures,
            )


def error_of(message: wire.Failed) -> NsedgeError:
    """The error that a failure message tells of, to be raised on the client's side."""
    return of_code(message.code)(
        message.message,
        param=message.param,
        retry_after_s=message.retry_after_s,
        figures=message.figures,
    )


def merge(deltas: Sequence[api.Delta]) -> api.Delta:
    """One delta for several of a request: text and ids joined, `seq` of the first."""
    first = deltas[0]
    if len(deltas) == 1:
        return first
    return api.Delta(
        request_id=first.request_id,
        seq=first.seq,
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
    )


def _pack(payload: object) -> bytes:
    return bytes(msgpack.packb(payload))


def _decode(frame: bytes, schema: Any) -> Any:
    """Lengths that a frame claims are bounded by its own, so that a forged one costs nothing."""
    try:
        payload = msgpack.unpackb(frame, strict_map_key=False)
        return msgspec.convert(payload, schema, builtin_types=_PLAIN)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise _bad(error) from error


def _bad(error: Exception) -> BadMessage:
    text = str(error)
    found = _PATH.search(text)
    param = next((part for part in found.groups() if part), None) if found else None
    return BadMessage(f"not a message of protocol {VERSION}: {text}", param=param)
