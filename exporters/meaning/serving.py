"""A daemon of one bundle, in this process and over its real socket, to measure what it answers."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsedge.core.service import LocalService, ServiceSettings
from nsedge.ipc.client import Client
from nsedge.ipc.server import Server
from nsedge.runtime.settings import EngineSettings

PATIENCE_S = 300.0


@contextmanager
def client_of(bundle: Path, *, variant: str) -> Iterator[Client]:
    """A client of a daemon that serves `bundle` in one variant.

    Raises:
        TimeoutError: it did not start.
    """
    engine = EngineSettings(variants={bundle.name: variant})
    service = LocalService(ServiceSettings(bundles=(bundle,), engine=engine))
    loop, began, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="nse") as place:
        endpoint = f"ipc://{place}/core.sock"

        async def serve() -> None:
            server = Server(service, endpoints=[endpoint])
            await server.start()
            await service.start()
            began.set()
            await stop.wait()
            await server.stop()
            await service.stop()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            if not began.wait(PATIENCE_S):
                raise TimeoutError("the daemon did not start")
            with Client(endpoint) as client:
                yield client
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
