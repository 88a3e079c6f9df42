"""Clients that come, ask, cancel, read or do not, and go, in any order, while the daemon restarts:
every request ends exactly once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random

from nsedge import api
from nsedge.errors import ConnectionLost
from nsedge.ipc.client import AsyncClient
from nsedge.ipc.limits import Limits
from nsedge.ipc.server import Server
from tests.fakes import MODEL, FakeService
from tests.ipc import short_directory, until

LIMITS = Limits(sweep_s=0.02, stall_s=0.3)
WINDOWS = [1, 200, 4096, None]


class Reader:
    """The sink of one request: takes its events, or does not."""

    def __init__(self, client: AsyncClient, label: str, *, takes: bool) -> None:
        self.events: list[api.Event] = []
        self._takes = takes
        request = api.Request(
            request_id=label, model=MODEL, task=api.Generate(text="one two three")
        )
        self.ticket = client.submit(request, self._see)

    def _see(self, event: api.Event) -> None:
        self.events.append(event)
        if self._takes:
            self.ticket.took(event)


async def visit(endpoint: str, chance: random.Random) -> list[Reader]:
    """One client's life: its requests, all of them over when it has gone."""
    window = chance.choice(WINDOWS)
    client = AsyncClient(endpoint, credit_bytes=window, backoff_s=(0.01, 0.02))
    readers: list[Reader] = []
    with contextlib.suppress(ConnectionLost):
        await client.connect()
        for _ in range(chance.randrange(1, 30)):
            label = f"r{chance.randrange(40)}"
            readers.append(Reader(client, label, takes=chance.random() < 0.7))
            if chance.random() < 0.3:
                chance.choice(readers).ticket.cancel()
            await asyncio.sleep(chance.random() * 0.005)
        await asyncio.sleep(chance.choice([0, 0.5]))
        await client.close()
        await asyncio.sleep(0)
    return readers


async def visits(endpoint: str, seed: int) -> list[Reader]:
    chance = random.Random(seed)
    return [reader for _ in range(4) for reader in await visit(endpoint, chance)]


def test_every_request_ends_once_and_nothing_is_left() -> None:
    async def scenario() -> None:
        service = FakeService(repeat=200, max_untaken=10**6, max_requests=100)
        with short_directory() as directory:
            endpoint = f"ipc://{directory}/core.sock"
            server = Server(service, endpoints=[endpoint], limits=LIMITS)
            await server.start()
            guests = asyncio.gather(*(visits(endpoint, seed) for seed in range(8)))
            while not guests.done():
                await asyncio.wait([guests], timeout=0.7)
                await server.stop()
                server = Server(service, endpoints=[endpoint], limits=LIMITS)
                await server.start()
            await until(lambda: not service.live)
            await server.stop()
        readers = [reader for guest in await guests for reader in guest]
        assert len(readers) > 100
        for reader in readers:
            ends = [event for event in reader.events if api.is_terminal(event)]
            assert ends == [reader.events[-1]]

    asyncio.run(scenario())
