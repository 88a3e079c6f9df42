"""Wyoming's events as bytes: a line of JSON, further JSON, and a payload. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nsedge.errors import BadMessage, MessageTooLarge

VERSION = "1.10.0"
"""Of the protocol that events are written in."""
MAX_LINE_BYTES = 64 << 10
MAX_DATA_BYTES = 64 << 10
MAX_PAYLOAD_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WyomingEvent:
    """One event; what its data may hold follows from its type."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


class _Header(msgspec.Struct):
    type: str
    data: dict[str, Any] | None = None
    data_length: int | None = None
    payload_length: int | None = None


class EventReader:
    """Cuts a stream of bytes to events. What cannot be read ends the stream: nobody knows where the
    next one begins."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.taken_bytes = 0
        """Of all events so far."""
        self._header: _Header | None = None

    def feed(self, data: bytes) -> Iterator[WyomingEvent]:
        """Take bytes; the events that they complete.

        Raises:
            BadMessage: they are no events.
            MessageTooLarge: one is larger than any may be.
        """
        self._held += data
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> WyomingEvent | None:
        if self._header is None:
            end = self._held.find(b"\n")
            if end > MAX_LINE_BYTES or (end < 0 and len(self._held) > MAX_LINE_BYTES):
                raise MessageTooLarge(f"the line of an event has at most {MAX_LINE_BYTES} bytes")
            if end < 0:
                return None
            self._header = _header(bytes(self._held[:end]))
            del self._held[: end + 1]
            self.taken_bytes += end + 1
        header = self._header
        data_size, payload_size = header.data_length or 0, header.payload_length or 0
        if len(self._held) < data_size + payload_size:
            return None
        more = _json(bytes(self._held[:data_size]), dict[str, Any]) if data_size else {}
        payload = bytes(self._held[data_size : data_size + payload_size])
        del self._held[: data_size + payload_size]
        self.taken_bytes += data_size + payload_size
        self._header = None
        return WyomingEvent(type=header.type, data={**(header.data or {}), **more}, payload=payload)


def encode(event: WyomingEvent) -> bytes:
    """An event as bytes."""
    header: dict[str, Any] = {"type": event.type, "version": VERSION}
    data = msgspec.json.encode(event.data) if event.data else b""
    if data:
        header["data_length"] = len(data)
    if event.payload:
        header["payload_length"] = len(event.payload)
    return b"".join((msgspec.json.encode(header), b"\n", data, event.payload))


def _header(line: bytes) -> _Header:
    header: _Header = _json(line, _Header)
    for name, size, most in (
        ("data", header.data_length, MAX_DATA_BYTES),
        ("payload", header.payload_length, MAX_PAYLOAD_BYTES),
    ):
        if size is not None and size < 0:
            raise BadMessage(f"{name}_length is below 0", param=f"{name}_length")
        if size is not None and size > most:
            raise MessageTooLarge(
                f"the {name} of an event has at most {most} bytes, not {size}",
                param=f"{name}_length",
            )
    return header


def _json(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadMessage(f"not an event of Wyoming's: {error}") from error
