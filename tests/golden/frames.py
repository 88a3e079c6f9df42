"""Frames as they were released, and how to compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from nsedge.ipc import messages as wire
from nsedge.ipc import protocol

DECODERS = {
    "data": protocol.decode_data,
    "control": protocol.decode_control,
    "server": protocol.decode_server,
}


def entries(version: str) -> list[dict[str, Any]]:
    """The frames of a released version, such as `1_0`."""
    path = Path(__file__).with_name(f"protocol_{version}.json")
    read: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return read


def decoded(entry: dict[str, Any]) -> wire.ClientMessage | wire.ServerMessage:
    """The message of an entry's frame, as this release reads it."""
    return DECODERS[entry["reader"]](bytes.fromhex(entry["frame"]))


def plain(message: wire.ClientMessage | wire.ServerMessage) -> Any:
    """A message as JSON has it."""
    return shown(msgspec.to_builtins(message, builtin_types=(bytes,)))


def shown(value: Any) -> Any:
    """As JSON has it: binary in hex, every key a string."""
    if isinstance(value, bytes):
        return f"hex:{value.hex()}"
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def holds(value: Any, part: Any) -> bool:
    """Whether `value` is `part`, give or take fields of maps that `part` does not name."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(holds(value.get(k), v) for k, v in part.items())
    if isinstance(part, list):
        return len(value) == len(part) and all(map(holds, value, part))
    return bool(value == part)
