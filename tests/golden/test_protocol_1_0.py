"""The frames of protocol 1.0 as they were released: read for ever, and written the same while 1.0
is the version spoken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from nsedge.ipc import messages as wire
from nsedge.ipc import protocol

PATH = Path(__file__).with_name("protocol_1_0.json")
GOLDEN: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
DECODERS = {
    "data": protocol.decode_data,
    "control": protocol.decode_control,
    "server": protocol.decode_server,
}


def plain(message: wire.ClientMessage | wire.ServerMessage) -> Any:
    return msgspec.to_builtins(message, builtin_types=(bytes,))


def shown(value: Any) -> Any:
    """As JSON has it: binary in hex, every key a string."""
    if isinstance(value, bytes):
        return f"hex:{value.hex()}"
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_it_is_still_read_as_it_was_meant(entry: dict[str, Any]) -> None:
    frame = bytes.fromhex(entry["frame"])
    message = DECODERS[entry["reader"]](frame)
    decoded = shown(plain(message))
    for field, value in entry["fields"].items():
        assert decoded.get(field) == value, field


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_it_is_still_written_so(entry: dict[str, Any]) -> None:
    frame = bytes.fromhex(entry["frame"])
    message = DECODERS[entry["reader"]](frame)
    assert protocol.encode(message) == frame
    assert shown(msgpack.unpackb(frame, strict_map_key=False)) == entry["fields"]


def test_every_message_is_among_them() -> None:
    tags = {
        struct.__struct_config__.tag
        for struct in (wire.ClientMessage | wire.ServerMessage).__args__
    }
    assert {entry["fields"]["type"] for entry in GOLDEN} == tags
    assert protocol.VERSION == "1.0", "keep these frames readable, and add those of the new version"
