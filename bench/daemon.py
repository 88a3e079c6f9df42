"""A core and a web shim of their own, as real processes on a temporary endpoint and a free port."""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp

import nsedge
from nsedge.api import HealthStatus
from nsedge.bundle.manifest import Bundle
from nsedge.errors import NsedgeError
from nsedge.ipc.client import AsyncClient

READY_S = 180.0
POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """Where it listens, and which processes it is: the core and the shim."""

    endpoint: str
    url: str
    model: str
    pids: tuple[int, ...]


@contextlib.asynccontextmanager
async def daemon(bundle: Path, *beside: Path, **engine: int) -> AsyncIterator[Daemon]:
    """Start both processes, wait until they are ready, and end them by their ids.

    The core loads `bundle`, which is the daemon's `model`, and those `beside` it.
    """
    with tempfile.TemporaryDirectory(prefix="nsedge-bench-") as folder:
        endpoint, port = f"ipc://{folder}/core.sock", free_port()
        settings = _write_settings(Path(folder), (bundle, *beside), port, engine)
        async with _process("serve", settings) as core:
            await _ready(endpoint)
            async with _process("web", settings) as shim:
                await _listening(port)
                url = f"http://127.0.0.1:{port}"
                name = Bundle.open(bundle).name
                yield Daemon(endpoint=endpoint, url=url, model=name, pids=(core, shim))


async def start_times(bundle: Path, **engine: int) -> tuple[float, float]:
    """Seconds from exec of both processes to the core's READY=1 and to the shim's health.

    The modules are compiled before, as an installation has them, wherever this is run from.
    """
    compileall.compile_dir(str(Path(nsedge.__file__).parent), quiet=1)
    with tempfile.TemporaryDirectory(prefix="nsedge-bench-") as folder:
        port = free_port()
        settings = _write_settings(Path(folder), (bundle,), port, engine)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(f"{folder}/notify.sock")
            supervisor.setblocking(False)
            began = time.perf_counter()
            async with (
                _process("serve", settings, NOTIFY_SOCKET=f"{folder}/notify.sock"),
                _process("web", settings),
                asyncio.timeout(READY_S),
            ):
                core, shim = await asyncio.gather(
                    _told_ready(supervisor), healthy(f"http://127.0.0.1:{port}")
                )
            return core - began, shim - began


async def healthy(url: str) -> float:
    """When (seconds of the performance counter) `GET /health` first says 200."""
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/health") as response:
                    if response.status == HTTPStatus.OK:
                        return time.perf_counter()
            await asyncio.sleep(POLL_S)


async def _told_ready(supervisor: socket.socket) -> float:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in await loop.sock_recv(supervisor, 4096):
        pass
    return time.perf_counter()


def _write_settings(
    folder: Path, bundles: Sequence[Path], port: int, engine: Mapping[str, int]
) -> Path:
    settings = folder / "nsedge.toml"
    load = ", ".join(f'"{bundle.resolve()}"' for bundle in bundles)
    lines = [f"{key} = {value}" for key, value in engine.items()]
    settings.write_text(
        f'home = "{folder}"\n[core]\nendpoint = "ipc://{folder}/core.sock"\n'
        f"[models]\nload = [{load}]\n[web]\nport = {port}\n"
        '[log]\nlevel = "warning"\n[engine]\n' + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return settings


@contextlib.asynccontextmanager
async def _process(command: str, settings: Path, **variables: str) -> AsyncIterator[int]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("NSEDGE_")}
    environment = {**own, **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nsedge", "--config", str(settings), command, env=environment
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _ready(endpoint: str) -> None:
    """Wait until the core takes requests, with every model loaded."""
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(NsedgeError):
                async with AsyncClient(endpoint) as client:
                    if (await client.health()).status is HealthStatus.READY:
                        return
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


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
