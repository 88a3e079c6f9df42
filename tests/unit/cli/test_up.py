"""What `nsedge up` hears of its children."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from nsedge.cli.up import hear
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
            said = await asyncio.wait_for(ready, 5)
            hearing.cancel()
            return said

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(scene()) == "at 0"
    assert not caplog.records
