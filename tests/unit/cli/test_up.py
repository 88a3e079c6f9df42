"""What `nsedge up` hears of its children."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
from pathlib import Path

import pytest

from nsedge.cli.up import Pair, hear
from nsedge.process.sdnotify import Notifier


def test_a_child_is_heard_to_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel holds a few datagrams for a reader; one that stops makes the sender fail."""
    address = str(tmp_path / "notify")
    notifier = Notifier(address)

    async def scene() -> str:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
            inbox.bind(address)
            inbox.setblocking(False)
            hearing = asyncio.create_task(hear(inbox, ready))
            for count in range(100):
                notifier.status(f"loading: {count}")
                notifier.ready(f"at {count}")
                await asyncio.sleep(0)
            notifier.stopping()
            said = await asyncio.wait_for(ready, 60)
            hearing.cancel()
            return said

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(scene()) == "at 0"
    assert not caplog.records


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("as_json", [False, True])
def test_children_go_on_where_nobody_reads_what_becomes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, as_json: bool
) -> None:
    class Lost(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr("sys.stdout", Lost())
    pair = Pair(flags=[], folder=tmp_path, limit_s=1.0, as_json=as_json)
    pair.tell("serve", "ready")
