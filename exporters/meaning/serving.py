"""A daemon of one bundle, in this process or in one of its own, over its real socket, to measure
what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsedge.api import HealthStatus
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import NsedgeError
from nsedge.ipc.client import Client
from nsedge.ipc.server import Server
from nsedge.runtime.settings import EngineSettings

PATIENCE_S = 300.0
POLL_S = 0.1


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


@contextmanager
def client_of_process(bundle: Path, *, variant: str) -> Iterator[Client]:
    """A client of `nsedge serve`, a process of its own that serves `bundle` in one variant.

    Raises:
        TimeoutError: it is not ready in time.
        RuntimeError: it ended before it was.
    """
    with tempfile.TemporaryDirectory(prefix="nse") as place:
        endpoint, settings = f"ipc://{place}/core.sock", Path(place) / "nsedge.toml"
        settings.write_text(
            f'home = "{place}"\n[core]\nendpoint = "{endpoint}"\n[log]\nlevel = "warning"\n'
            f'[models]\nload = ["{bundle.resolve()}"]\nvariants = ["{bundle.name}={variant}"]\n',
            encoding="utf-8",
        )
        own = {name: told for name, told in os.environ.items() if not name.startswith("NSEDGE_")}
        command = [sys.executable, "-m", "nsedge", "--config", str(settings), "serve"]
        with subprocess.Popen(command, env=own) as process:
            try:
                with _connected(endpoint, process) as client:
                    yield client
            finally:
                process.terminate()


def _connected(endpoint: str, process: subprocess.Popen[bytes]) -> Client:
    """A client of a daemon in which every model is loaded."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        with contextlib.suppress(NsedgeError):
            client = Client(endpoint)
            if client.health().status is HealthStatus.READY:
                return client
            client.close()
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended with status {process.returncode}")
        time.sleep(POLL_S)
    raise TimeoutError("the daemon did not start")
