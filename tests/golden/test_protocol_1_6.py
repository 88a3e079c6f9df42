"""The frames of protocol 1.6: read for ever, and written the same while 1.6 is the version
spoken."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from tests.golden.frames import decoded, entries, holds, plain, shown

GOLDEN = entries("1_6")


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_it_is_still_read_as_it_was_meant(entry: dict[str, Any]) -> None:
    assert holds(plain(decoded(entry)), entry["fields"])


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_it_is_still_written_so(entry: dict[str, Any]) -> None:
    frame = bytes.fromhex(entry["frame"])
    assert protocol.encode(decoded(entry)) == frame
    assert shown(msgpack.unpackb(frame, strict_map_key=False)) == entry["fields"]


def test_every_message_is_among_them() -> None:
    tags = {
        struct.__struct_config__.tag
        for struct in (wire.ClientMessage | wire.ServerMessage).__args__
    }
    assert {entry["fields"]["type"] for entry in GOLDEN} == tags
    assert protocol.VERSION == "1.6", "keep these frames readable, and add those of the new version"
