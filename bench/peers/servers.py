"""Servers to put side by side: ours, and llama.cpp's, each with as many slots as streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.daemon import READY_S, daemon, free_port, healthy, start_times
from bench.doors import Door, SseDoor, ZmqDoor, open_session
from bench.peers.process import end
from nsedge.ipc.client import AsyncClient

SSE = "SSE"
ZEROMQ = "ZeroMQ"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that takes requests: its doors by what they are called, and its processes."""

    doors: dict[str, Door]
    pids: tuple[int, ...]


class Server(Protocol):
    """Something to start."""

    @property
    def name(self) -> str:
        """The name of its rows."""

    def start(self, *, slots: int, context: int) -> AbstractAsyncContextManager[Running]:
        """Run it with `slots` of `context` tokens each, until the context ends."""

    async def ready_s(self) -> dict[str, float]:
        """Seconds from exec until it takes requests, by what was waited for."""


@dataclass(frozen=True, kw_only=True)
class OurServer:
    """The daemon and its shim, on one bundle."""

    name: str
    bundle: Path
    threads: int

    @contextlib.asynccontextmanager
    async def start(self, *, slots: int, context: int) -> AsyncIterator[Running]:
        engine = {"slots": slots, "context_tokens": context, "threads": self.threads}
        async with (
            daemon(self.bundle, **engine) as found,
            AsyncClient(found.endpoint) as client,
            open_session() as session,
        ):
            doors: dict[str, Door] = {
                SSE: SseDoor(session, found.url, found.model),
                ZEROMQ: ZmqDoor(client, found.model),
            }
            yield Running(doors=doors, pids=found.pids)

    async def ready_s(self) -> dict[str, float]:
        core, shim = await start_times(self.bundle, threads=self.threads)
        return {"ready": core, "http": shim}


@dataclass(frozen=True, kw_only=True)
class LlamaServer:
    """llama-server on one GGUF file."""

    name: str
    program: Path
    weights: Path
    threads: int

    @contextlib.asynccontextmanager
    async def start(self, *, slots: int, context: int) -> AsyncIterator[Running]:
        async with self._process(slots, context) as (url, pid):
            async with asyncio.timeout(READY_S):
                await healthy(url)
            async with open_session() as session:
                yield Running(doors={SSE: SseDoor(session, url, self.name)}, pids=(pid,))

    async def ready_s(self) -> dict[str, float]:
        began = time.perf_counter()
        async with self._process(16, 1024) as (url, _), asyncio.timeout(READY_S):
            return {"http": await healthy(url) - began}

    @contextlib.asynccontextmanager
    async def _process(self, slots: int, context: int) -> AsyncIterator[tuple[str, int]]:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            self.program,
            *("--model", self.weights, "--host", "127.0.0.1", "--port", str(port)),
            *("--parallel", str(slots), "--ctx-size", str(slots * context)),
            *("--threads", str(self.threads)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            await end(process)
