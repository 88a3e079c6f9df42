"""The envelope: frames in, messages out, and back. No sockets, no state.

A ZeroMQ message is `[b"nsedge/1", payload, ...]`: the first frame names the protocol and its major
version, each further one is a msgpack map (see `messages`). docs/protocol.md is the specification.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgpack
import msgspec

from nsedge.api import (
    Label,
    Logprobs,
    ModelInfo,
    PromptReading,
    Sampling,
    TokenLogprob,
    Usage,
)
from nsedge.errors import BadMessage, MessageTooLarge, UnsupportedVersion
from nsedge.ipc import messages as wire

VERSION = "1.6"
MINOR = 6
OF_BEAMS = ("beams", "length_penalty", "early_stopping")
"""Of `Sampling`, what came with 1.6."""
MAJOR = 1
MAGIC = b"nsedge/1"

_PREFIX = b"nsedge/"
_PATH = re.compile(r"at `(?:key in )?\$\.?([^`]*)`$|required field `([^`]+)`")


_PLAIN = (bytes,)
"""Types that msgpack holds as they are, beside those of JSON."""


def _added(kind: type, last: str) -> dict[str, Any]:
    """The fields of `kind` behind `last`, with their defaults."""
    names = [each.name for each in dataclasses.fields(kind)]
    later = dataclasses.fields(kind)[names.index(last) + 1 :]
    return {each.name: _default(each) for each in later}


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


_ADDED = {
    Usage: _added(Usage, "cached_tokens"),
    ModelInfo: _added(ModelInfo, "base"),
    Sampling: _added(Sampling, "prompt_lookup"),
    Logprobs: _added(Logprobs, "text"),
    TokenLogprob: _added(TokenLogprob, "text"),
    Label: _added(Label, "score"),
    PromptReading: _added(PromptReading, "token_ids"),
}
"""Fields that need not be written of types whose others always are: those new with 1.3, to
`Sampling` with 1.4, and the rare of what there is much of."""


def new_in_sampling(sampling: Sampling) -> dict[str, int]:
    """The fields that are set and came with 1.4 or later, each with its minor version."""
    added = _ADDED[Sampling].items()
    return {
        name: 6 if name in OF_BEAMS else 4
        for name, default in added
        if getattr(sampling, name) != default
    }


class Labelled(msgspec.Struct):
    """The `id` of a payload that does not decode otherwise."""

    id: wire.Id | None = None


def encode(message: wire.ClientMessage | wire.ServerMessage) -> bytes:
    """One payload frame."""
    payload = msgspec.to_builtins(message, builtin_types=_PLAIN)
    if "sampling" in payload:
        _leave_out(payload["sampling"], Sampling)
    elif isinstance(message, wire.AnyDelta | wire.PromptLogprobs):
        _leave_out_of_each(payload.get("logprobs", ()))
    elif isinstance(message, wire.Labels):
        for one in (label for labels in payload["labels"] for label in labels):
            _leave_out(one, Label)
    elif isinstance(message, wire.Finished | wire.ChoiceFinished):
        _leave_out(payload["usage"], Usage)
    elif isinstance(message, wire.Reply):
        if message.prompt is not None:
            _leave_out(payload["prompt"], PromptReading)
        for model in _models(payload):
            _leave_out(model, ModelInfo)
    return pack(payload)


def _models(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from reply.get("models") or ()
    if "loaded" in reply:
        yield reply["loaded"]["model"]


def _leave_out_of_each(logprobs: Sequence[dict[str, Any]]) -> None:
    for one in logprobs:
        for token in one["top"]:
            _leave_out(token, TokenLogprob)
        _leave_out(one, Logprobs)


def _leave_out(fields: dict[str, Any], kind: type) -> None:
    """Take away what need not be written of a type, where it is as if it were not there."""
    for name, default in _ADDED[kind].items():
        if fields[name] == default:
            del fields[name]


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
    """Read a client's message on the data socket. Raises BadMessage, naming the field at fault."""
    return decode_data_whole(frame)[0]


def decode_data_whole(frame: bytes) -> tuple[wire.DataMessage, Any]:
    """The same, with the map that it was read from, in which more may stand."""
    payload = _unpack(frame)
    message: wire.DataMessage = _typed(payload, _DATA, wire.DataMessage)
    return message, payload


def decode_control(frame: bytes) -> wire.ControlMessage:
    """Read a client's message on the control socket. Raises BadMessage, naming the field."""
    message: wire.ControlMessage = _decode_one(frame, _CONTROL, wire.ControlMessage)
    return message


def decode_server(frame: bytes) -> wire.ServerMessage:
    """Read a server's message. Raises BadMessage, naming the field at fault."""
    message: wire.ServerMessage = _decode_one(frame, _SERVER, wire.ServerMessage)
    return message


def readable_id(frame: bytes) -> str | None:
    """The `id` of a payload that does not decode otherwise, None where even that is unreadable."""
    try:
        labelled: Labelled = _convert(_unpack(frame), Labelled)
    except BadMessage:
        return None
    return labelled.id


def field_at_fault(error: Exception) -> str | None:
    """The field that msgspec complains of, None where it is none."""
    found = _PATH.search(str(error))
    return next((part for part in found.groups() if part), None) if found else None


def check_version(protocol: str) -> None:
    """Raises UnsupportedVersion for a peer of another major version."""
    if int(protocol.split(".")[0]) != MAJOR:
        raise UnsupportedVersion(
            f"this side speaks protocol {VERSION}, not {protocol}", param="protocol"
        )


def minor_of(protocol: str) -> int:
    """The minor version that a peer says it speaks."""
    return int(protocol.split(".")[1])


def pack(payload: object) -> bytes:
    """A payload as msgpack."""
    return bytes(msgpack.packb(payload))


def _tagged(union: Any) -> dict[str, type[msgspec.Struct]]:
    return {kind.__struct_config__.tag: kind for kind in get_args(union)}


_DATA = _tagged(wire.DataMessage)
_CONTROL = _tagged(wire.ControlMessage)
_SERVER = _tagged(wire.ServerMessage)


def _decode_one(frame: bytes, kinds: dict[str, type[msgspec.Struct]], union: Any) -> Any:
    return _typed(_unpack(frame), kinds, union)


def _typed(payload: Any, kinds: dict[str, type[msgspec.Struct]], union: Any) -> Any:
    """A message of one of `kinds`, by its tag: converting to the union looks for it in a way that
    takes ten times as long."""
    tag = payload.get("type") if isinstance(payload, dict) else None
    return _convert(payload, kinds.get(tag, union) if isinstance(tag, str) else union)


def _unpack(frame: bytes) -> Any:
    """Lengths that a frame claims are bounded by its own, so that a forged one costs nothing."""
    try:
        return msgpack.unpackb(frame, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad(error) from error


def _convert(payload: Any, schema: Any) -> Any:
    try:
        return msgspec.convert(payload, schema, builtin_types=_PLAIN)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise _bad(error) from error


def _bad(error: Exception) -> BadMessage:
    message = f"not a message of protocol {VERSION}: {error}"
    return BadMessage(message, param=field_at_fault(error))
