"""A core and a web shim of their own, as real processes on a temporary endpoint and a free port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from nsedge.api import HealthStatus
from nsedge.errors import NsedgeError
from nsedge.ipc.client import AsyncClient

READY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """Where it listens, and which processes it is: the core and the shim."""

    endpoint: str
    url: str
    model: str
    pids: tuple[int, ...]


@contextlib.asynccontextmanager
async def daemon(bundle: Path, **engine: int) -> AsyncIterator[Daemon]:
    """Start both processes, wait until they are ready, and end them by their ids."""
    with tempfile.TemporaryDirectory(prefix="nsedge-bench-") as folder:
        endpoint, port = f"ipc://{folder}/core.sock", _free_port()
        settings = Path(folder, "nsedge.toml")
        lines = [f"{key} = {value}" for key, value in engine.items()]
        settings.write_text(
            f'home = "{folder}"\n[core]\nendpoint = "{endpoint}"\n'
            f'[models]\nload = ["{bundle.resolve()}"]\n[web]\nport = {port}\n'
            '[log]\nlevel = "warning"\n[engine]\n' + "\n".join(lines) + "\n",
            encoding="utf-8",
        )
        async with _process("serve", settings) as core:
            model = await _ready(endpoint)
            async with _process("web", settings) as shim:
                await _listening(port)
                url = f"http://127.0.0.1:{port}"
                yield Daemon(endpoint=endpoint, url=url, model=model, pids=(core, shim))


@contextlib.asynccontextmanager
async def _process(command: str, settings: Path) -> AsyncIterator[int]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NSEDGE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nsedge", "--config", str(settings), command, env=environment
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _ready(endpoint: str) -> str:
    """The name of the model, once the core takes requests."""
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(NsedgeError):
                async with AsyncClient(endpoint) as client:
                    if (await client.health()).status is HealthStatus.READY:
                        return (await client.models())[0].name
            await asyncio.sleep(0.1)


async def _listening(port: int) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
