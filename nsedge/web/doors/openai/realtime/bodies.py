"""What clients say in a realtime session."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.errors import BadMessage


class Said(msgspec.Struct, forbid_unknown_fields=True, tag_field="type"):
    """An event; `event_id` is the client's own, and stands in errors about it."""

    event_id: str | None = None


class SessionUpdate(Said, tag="session.update"):
    """Sets what is in `session`."""

    session: dict[str, Any] = {}


class BetaUpdate(Said, tag="transcription_session.update"):
    """The same in the shape of the beta."""

    session: dict[str, Any] = {}


class Append(Said, kw_only=True, tag="input_audio_buffer.append"):
    """Sound, in base64."""

    audio: str


class Commit(Said, tag="input_audio_buffer.commit"):
    """What came is to be written."""


class Clear(Said, tag="input_audio_buffer.clear"):
    """What came and is not written is to be forgotten."""


Message = SessionUpdate | BetaUpdate | Append | Commit | Clear
_DECODER = msgspec.json.Decoder(Message)


class _Labelled(msgspec.Struct):
    event_id: str | None = None


def read(text: str) -> Message:
    """An event. Raises BadMessage: it is none that is known in a session that transcribes."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        raise BadMessage(f"the event does not fit: {error}") from error


def event_id_of(text: str) -> str | None:
    """The client's own id of an event that cannot be read otherwise, where there is one."""
    try:
        return msgspec.json.decode(text, type=_Labelled).event_id
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return None
