"""The fake service behind a real ZeroMQ door, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsedge.ipc.server import Server
from tests.fakes import FakeService


@contextmanager
def fake_daemon(folder: Path, service: FakeService) -> Iterator[str]:
    """Serve `service` at an ipc endpoint below `folder`; yields the endpoint."""
    endpoint = f"ipc://{folder}/core.sock"
    began, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = Server(service, endpoints=[endpoint])
        await server.start()
        began.set()
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        if not began.wait(10):
            raise TimeoutError("the fake daemon did not start")
        yield endpoint
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
