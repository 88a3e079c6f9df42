"""Clients of our daemon that each ask for a vector of one text after another: ENDPOINT URL MODEL.

A process of its own, as clients are. `work` goes on until `rest`, beside whatever else is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import aiohttp

from bench.peers.programs.answering import answer
from nsedge.ipc.client import AsyncClient

Ask = Callable[[str], Awaitable[None]]


class Clients:
    """A loop of its own, in a thread, with the clients in it."""

    def __init__(self, endpoint: str, url: str, model: str) -> None:
        self._endpoint, self._url, self._model = endpoint, url, model
        self._loop = asyncio.new_event_loop()
        self._resting: asyncio.Event | None = None
        self._working: asyncio.Task[None] | None = None
        self._done, self._began_s = 0, 0.0
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def embed(self, texts: list[str], clients: int, http: bool) -> dict[str, Any]:
        """Texts/s of all of `texts`, shared out among `clients` that work at once."""
        seconds = self._run(self._share(texts, clients, http=http))
        return {"texts_per_s": len(texts) / seconds}

    def work(self, texts: list[str], clients: int) -> dict[str, Any]:
        """Begin to ask for `texts` over and over."""
        self._run(self._begin(texts, clients))
        return {}

    def rest(self) -> dict[str, Any]:
        """Stop that; how many vectors came, and in how many seconds."""
        told: dict[str, Any] = self._run(self._end())
        return told

    def _run(self, wanted: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result()

    async def _share(self, texts: Sequence[str], clients: int, *, http: bool) -> float:
        async with contextlib.AsyncExitStack() as stack:
            asks = [await stack.enter_async_context(self._client(http)) for _ in range(clients)]
            left = iter(texts)
            for ask in asks:
                await ask("warm")
            began = time.perf_counter()
            await asyncio.gather(*(_take(ask, left) for ask in asks))
            return time.perf_counter() - began

    async def _begin(self, texts: Sequence[str], clients: int) -> None:
        self._resting = asyncio.Event()
        self._done, self._began_s = 0, time.perf_counter()
        self._working = asyncio.create_task(self._on(texts, clients, self._resting))

    async def _on(self, texts: Sequence[str], clients: int, resting: asyncio.Event) -> None:
        def endless() -> Iterator[str]:
            while not resting.is_set():
                for text in texts:
                    if resting.is_set():
                        return
                    self._done += 1
                    yield text

        async with contextlib.AsyncExitStack() as stack:
            asks = [await stack.enter_async_context(self._client(False)) for _ in range(clients)]
            left = endless()
            await asyncio.gather(*(_take(ask, left) for ask in asks))

    async def _end(self) -> dict[str, Any]:
        if self._resting is None or self._working is None:
            raise RuntimeError("nobody works")
        self._resting.set()
        await self._working
        return {"texts": self._done, "seconds": time.perf_counter() - self._began_s}

    @contextlib.asynccontextmanager
    async def _client(self, http: bool) -> Any:
        if http:
            async with aiohttp.ClientSession(self._url) as session:

                async def post(text: str) -> None:
                    body = {"model": self._model, "input": text, "encoding_format": "base64"}
                    async with session.post("/v1/embeddings", json=body) as response:
                        response.raise_for_status()
                        await response.read()

                yield post
            return
        async with AsyncClient(self._endpoint) as client:

            async def ask(text: str) -> None:
                await client.embed(self._model, text).embeddings()

            yield ask


async def _take(ask: Ask, left: Iterator[str]) -> None:
    for text in left:
        await ask(text)


def main() -> None:
    """Answer."""
    clients = Clients(*sys.argv[1:4])
    answer({"embed": clients.embed, "work": clients.work, "rest": clients.rest})


if __name__ == "__main__":
    main()
