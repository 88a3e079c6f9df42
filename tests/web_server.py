"""The web shim on a free loopback port, and a client of bare bytes, for tests."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nsedge.api import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Request,
    Service,
    Sink,
    Started,
    Timings,
    Usage,
)
from nsedge.errors import NsedgeError
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.tracing import Tracing
from nsedge.web import doors
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.door import Door
from nsedge.web.door_settings import DoorSettings
from nsedge.web.fetching import Fetcher
from nsedge.web.limits import WebLimits
from nsedge.web.listening import Listener, serve
from tests.fakes import FakeService


@dataclass
class Shim:
    """A running shim; set `stop` to end it."""

    port: int
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def running(
    service: Service,
    limits: WebLimits | None = None,
    *,
    through: Sequence[Door] = doors.ALL,
    keys: WatchedFile[KeyRing] | None = None,
    tls: ssl.SSLContext | None = None,
    settings: DoorSettings | None = None,
    tracing: Tracing | None = None,
    fetcher: Fetcher | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Shim]:
    """`serve` in this loop, until the block is left."""
    stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
    answering = Answering(
        service,
        limits,
        keys=keys,
        settings=settings,
        tracing=tracing,
        fetcher=fetcher,
        clock=clock,
    )
    listener = Listener(
        app=create_app(answering, through),
        host="127.0.0.1",
        port=0,
        on_listening=lambda _, port: bound.set_result(port),
    )
    task = asyncio.create_task(serve(listener, stop=stop, tls=tls))
    await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield Shim(bound.result(), stop, task)
    finally:
        stop.set()
        await task


@dataclass
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body)

    @property
    def data(self) -> list[object]:
        """The data lines of an event stream, decoded, but for [DONE]."""
        lines = [line[6:] for line in self.body.split(b"\n\n") if line.startswith(b"data: ")]
        return [line.decode() if line == b"[DONE]" else msgspec.json.decode(line) for line in lines]


class Connection:
    """One HTTP connection that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        version: str = "1.1",
        **headers: str,
    ) -> None:
        content = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)
        told = {
            "host": "127.0.0.1",
            "content-type": "application/json",
            "content-length": str(len(content)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/{version}"]
        lines += [f"{name}: {value}" for name, value in told.items() if value]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers, names in lower case."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in raw[1:] if line)
        return int(raw[0].split()[1]), {name.lower(): value for name, value in pairs}

    async def chunk(self) -> bytes:
        """One chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self) -> Answer:
        """The whole answer."""
        status, headers = await self.head()
        chunks: list[bytes] = []
        if headers.get("transfer-encoding") == "chunked":
            while chunk := await self.chunk():
                chunks.append(chunk)
        elif "content-length" in headers or status == 204:
            chunks.append(await self.reader.readexactly(int(headers.get("content-length", 0))))
        else:
            chunks.append(await self.reader.read())
        return Answer(status, headers, b"".join(chunks), chunks)

    def abort(self) -> None:
        """Vanish, as a killed client does."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait({asyncio.ensure_future(self.writer.wait_closed())})


async def ask(port: int, method: str, path: str, body: object = None, **options: object) -> Answer:
    """One request on a connection of its own."""
    connection = await Connection.open(port)
    connection.say(method, path, body, **options)  # type: ignore[arg-type]
    try:
        return await connection.answer()
    finally:
        connection.writer.close()


@dataclass(eq=False)
class PuppetTicket:
    """A request that does what the test says: `emit` events, and see what became of them."""

    request: Request
    sink: Sink
    taken: list[Event] = field(default_factory=list)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def took(self, event: Event) -> None:
        self.taken.append(event)

    def emit(self, *events: Event) -> None:
        for event in events:
            self.sink(event)

    def start(self) -> None:
        self.emit(Started(request_id=self.request.request_id, prompt_tokens=1, queue_s=0.0))

    def say(self, text: str) -> None:
        rid = self.request.request_id
        self.emit(Delta(request_id=rid, seq=0, text=text, token_ids=(1,)))

    def finish(self, reason: FinishReason = FinishReason.STOP) -> None:
        self.emit(
            Finished(
                request_id=self.request.request_id,
                reason=reason,
                usage=Usage(prompt_tokens=1, completion_tokens=1),
                timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
            )
        )

    def refuse(self, error: NsedgeError) -> None:
        self.emit(Failed.of(self.request.request_id, error))


class PuppetService(FakeService):
    """Holds every request back until the test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[PuppetTicket] = []

    def submit(self, request: Request, sink: Sink) -> PuppetTicket:  # type: ignore[override]
        self.tickets.append(PuppetTicket(request, sink))
        return self.tickets[-1]

    async def ticket(self, number: int = 0) -> PuppetTicket:
        """The request submitted `number`th, once it is there."""
        await until(lambda: len(self.tickets) > number)
        return self.tickets[number]


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> int:
    """Give way until `condition` holds; the loop turns that took."""
    end_s, turns = asyncio.get_running_loop().time() + within_s, 0
    while not condition():
        assert asyncio.get_running_loop().time() < end_s, "it never came to hold"
        await asyncio.sleep(0)
        turns += 1
    return turns


def served(
    test: Callable[[Shim], Awaitable[None]],
    service: FakeService | None = None,
    limits: WebLimits | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        async with running(service or FakeService(), limits, **options) as shim:
            await asyncio.wait_for(test(shim), 60)

    asyncio.run(main())


SHARED = ("keys", "through", "settings", "fetcher")
"""Options of `answered` that are the shim's."""


def answered(method: str, path: str, body: object = None, **options: Any) -> Answer:
    """One request against a shim of its own."""
    answers: list[Answer] = []
    service, limits = options.pop("service", None), options.pop("limits", None)
    shared = {name: options.pop(name) for name in SHARED if name in options}

    async def test(shim: Shim) -> None:
        answers.append(await ask(shim.port, method, path, body, **options))

    served(test, service, limits, **shared)
    return answers[0]


def error_of(answer: Answer) -> dict[str, Any]:
    error: Any = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error
