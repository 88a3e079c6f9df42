"""Wyoming's listener over a real loopback socket, in front of the fake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from nsedge.api import Listen
from nsedge.errors import ConfigInvalid, Draining
from nsedge.web.answering import Answering
from nsedge.web.limits import WebLimits
from nsedge.web.outgoing import MOST_UNSENT
from nsedge.web.wyoming.server import (
    MAX_CONNECTIONS,
    Connection,
    WyomingAddress,
    hearing_wyoming,
)
from nsedge.web.wyoming.wire import EventReader, WyomingEvent, encode
from tests.fakes import MODEL, FakeService
from tests.ipc import until

WITHIN_S = 30
FORM = {"rate": 16_000, "width": 2, "channels": 1}


class Client:
    """Speaks Wyoming."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._events = EventReader()
        self._heard: list[WyomingEvent] = []

    @classmethod
    async def open(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, kind: str, payload: bytes = b"", **data: Any) -> None:
        self.writer.write(encode(WyomingEvent(type=kind, data=data, payload=payload)))
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.say("audio-chunk", data, **FORM)

    async def hear(self) -> WyomingEvent | None:
        """The next event; None where the connection has ended."""
        async with asyncio.timeout(WITHIN_S):
            while not self._heard:
                data = await self.reader.read(1 << 16)
                if not data:
                    return None
                self._heard += self._events.feed(data)
        return self._heard.pop(0)

    async def until(self, kind: str) -> list[WyomingEvent]:
        heard: list[WyomingEvent] = []
        while not heard or heard[-1].type != kind:
            event = await self.hear()
            assert event is not None, heard
            heard.append(event)
        return heard


@contextlib.asynccontextmanager
async def listening(
    service: FakeService, limits: WebLimits | None = None
) -> AsyncIterator[tuple[int, Answering]]:
    answering, ports = Answering(service, limits), list[int]()
    address = WyomingAddress(
        host="127.0.0.1", port=0, on_listening=lambda _, port: ports.append(port)
    )
    async with hearing_wyoming(answering, address):
        yield ports[0], answering


def talk(
    said: Callable[[Client], Awaitable[None]],
    service: FakeService | None = None,
    limits: WebLimits | None = None,
) -> FakeService:
    used = service or FakeService()

    async def main() -> None:
        async with listening(used, limits) as (port, _):
            client = await Client.open(port)
            await said(client)
            client.writer.close()

    asyncio.run(main())
    return used


def test_a_client_learns_what_hears_here() -> None:
    async def said(client: Client) -> None:
        await client.say("describe")
        info = await client.hear()
        assert info is not None
        assert info.type == "info"
        (program,) = info.data["asr"]
        assert program["supports_transcript_streaming"]
        assert [one["name"] for one in program["models"]] == [MODEL]
        assert program["models"][0]["languages"] == ["en", "de"]
        await client.say("ping", text="there?")
        assert await client.hear() == WyomingEvent(type="pong", data={"text": "there?"})

    talk(said)


def test_sound_becomes_chunks_and_a_transcript_one_after_the_other() -> None:
    async def said(client: Client) -> None:
        for text in ("one two three", "four"):
            await client.say("transcribe", name=MODEL, language="de-DE")
            await client.say("audio-start", **FORM)
            for word in text.split():
                await client.chunk(f"{word} ".encode())
            await client.say("audio-stop")
            heard = await client.until("transcript-stop")
            kinds = [one.type for one in heard]
            assert kinds[0] == "transcript-start"
            assert kinds[-2:] == ["transcript", "transcript-stop"]
            assert heard[-2].data == {"text": text}
            chunks = "".join(one.data["text"] for one in heard if one.type == "transcript-chunk")
            assert chunks.strip() == text

    task = talk(said).requests[0].task
    assert isinstance(task, Listen)
    assert (task.language, task.rate, task.channels) == ("de", 16_000, 1)


def test_a_chunk_may_come_without_a_start_and_a_second_start_drops_the_first() -> None:
    async def said(client: Client) -> None:
        await client.chunk(b"one")
        await client.say("audio-start", **FORM)
        await client.chunk(b"two")
        await client.say("audio-stop")
        heard = await client.until("transcript-stop")
        assert heard[-2].data["text"] == "two"

    service = talk(said)
    assert service.cancelled == 1


def test_what_is_wrong_with_an_event_is_told_and_the_connection_goes_on() -> None:
    async def said(client: Client) -> None:
        for data, code in (
            ({**FORM, "width": 1}, "invalid_parameter"),
            ({**FORM, "rate": 1}, "invalid_parameter"),
            ({**FORM, "channels": "two"}, "invalid_parameter"),
        ):
            await client.say("audio-start", **data)
            error = await client.hear()
            assert error is not None
            assert (error.type, error.data["code"]) == ("error", code)
        await client.say("transcribe", name="nope")
        await client.say("audio-start", **FORM)
        error = await client.hear()
        assert error is not None
        assert error.data["code"] == "unknown_model"
        await client.say("transcribe")
        await client.say("synthesize", text="what is none of ours is dropped")
        await client.say("audio-stop")
        await client.chunk(b"one")
        await client.say("audio-stop")
        assert (await client.until("transcript"))[-1].data["text"] == "one"

    talk(said)


def test_a_request_that_fails_is_told() -> None:
    async def said(client: Client) -> None:
        await client.chunk(b"one")
        await client.say("audio-stop")
        error = await client.hear()
        assert error is not None
        assert (error.type, error.data["code"]) == ("error", "queue_full")

    talk(said, FakeService(max_requests=0))


def test_what_cannot_be_read_is_told_and_ends_the_connection() -> None:
    async def said(client: Client) -> None:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        error = await client.hear()
        assert error is not None
        assert (error.type, error.data["code"]) == ("error", "bad_message")
        assert await client.hear() is None

    talk(said)


def test_sound_comes_as_fast_as_it_is_heard() -> None:
    async def said(client: Client) -> None:
        await client.say("audio-start", **FORM)
        for _ in range(8):
            await client.chunk(b"word " * 100_000)
        await client.say("audio-stop")
        told = b""
        async with asyncio.timeout(WITHIN_S):
            while b'"transcript-stop"' not in told[-200:]:
                told += await client.reader.read(1 << 20)
        assert told.count(b"word") == 2 * 8 * 100_000, "in chunks, and in the transcript"

    talk(said, FakeService(max_untaken=100_000))


def test_a_client_that_leaves_is_heard_no_further() -> None:
    async def main() -> None:
        service = FakeService()
        async with listening(service) as (port, answering):
            client = await Client.open(port)
            await client.chunk(b"one two")
            await client.until("transcript-chunk")
            assert answering.under_way == 1
            client.writer.transport.abort()
            await until(lambda: not (service.live or answering.under_way))
        assert service.cancelled == 1

    asyncio.run(main())


def test_a_client_is_heard_while_its_transcript_is_made() -> None:
    """What it says next is done behind that, in order."""
    gate = asyncio.Event()

    async def said(client: Client) -> None:
        await client.chunk(b"one")
        await client.say("audio-stop")
        await client.say("ping", text="there?")
        assert (await client.until("pong"))[-1].data == {"text": "there?"}
        await client.say("audio-start", **FORM)
        await client.chunk(b"two")
        await client.say("audio-stop")
        gate.set()
        for text in ("one", "two"):
            assert (await client.until("transcript-stop"))[-2].data["text"] == text

    service = talk(said, FakeService(gate=gate))
    assert service.cancelled == 0


@pytest.mark.parametrize("more", [b"", b"two"])
def test_a_client_that_leaves_while_its_transcript_is_made_is_noticed(more: bytes) -> None:
    async def main() -> None:
        service = FakeService(gate=asyncio.Event())
        async with listening(service) as (port, answering):
            client = await Client.open(port)
            await client.chunk(b"one")
            await client.say("audio-stop")
            await client.until("transcript-chunk")
            if more:
                await client.chunk(more)
            client.writer.close()
            await until(lambda: not (service.live or answering.under_way))
        assert service.cancelled == 1
        assert len(service.requests) == 1

    asyncio.run(main())


def test_there_is_room_for_so_many() -> None:
    async def main() -> None:
        async with listening(FakeService()) as (port, _):
            clients = [await Client.open(port) for _ in range(MAX_CONNECTIONS)]
            for client in clients:
                await client.say("ping")
                await client.hear()
            surplus = await Client.open(port)
            error = await surplus.hear()
            assert error is not None
            assert error.data["code"] == "unavailable"
            assert await surplus.hear() is None
            clients[0].writer.close()
            async with asyncio.timeout(WITHIN_S):
                while True:
                    again = await Client.open(port)
                    await again.say("ping")
                    told = await again.hear()
                    if told is not None and told.type == "pong":
                        break

    asyncio.run(main())


def test_stopping_tells_who_is_heard() -> None:
    async def main() -> None:
        async with listening(FakeService(), WebLimits(drain_s=0.0)) as (port, answering):
            client = await Client.open(port)
            await client.chunk(b"one two")
            await client.until("transcript-chunk")
            await answering.drain()
            error = (await client.until("error"))[-1]
            assert error.data["code"] == Draining.code
            assert await client.hear() is None

    asyncio.run(main())


@pytest.mark.parametrize("limits", [WebLimits(), WebLimits(allow_anonymous=True)])
def test_beyond_loopback_it_wants_leave(limits: WebLimits) -> None:
    async def main() -> None:
        address = WyomingAddress(host="0.0.0.0", port=0)
        with pytest.raises(ConfigInvalid, match=r"web\.allow_"):
            async with hearing_wyoming(Answering(FakeService(), limits), address):
                pass
        leave = WebLimits(allow_anonymous=True, allow_cleartext=True)
        async with hearing_wyoming(Answering(FakeService(), leave), address):
            pass

    asyncio.run(main())


def test_who_reads_nothing_is_heard_no_further() -> None:
    """Else what is to be said to him would take any memory."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        writer: Any = Stuck()
        connection = Connection(Answering(FakeService()), reader, writer)
        serving = asyncio.create_task(connection.serve())
        reader.feed_data(encode(WyomingEvent(type="ping")) * 1000)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert 0 < connection._out.qsize() <= MOST_UNSENT
        writer.moves.set()
        await until(lambda: writer.written == 1000)
        reader.feed_eof()
        await serving

    asyncio.run(main())


class Stuck:
    """A stream's writer whose reader takes nothing until it `moves`."""

    def __init__(self) -> None:
        self.moves = asyncio.Event()
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += 1

    async def drain(self) -> None:
        await self.moves.wait()

    def close(self) -> None:
        pass
