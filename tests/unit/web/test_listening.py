"""Doors with an address of their own, beside the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nsedge.errors import ConfigInvalid
from nsedge.web import doors
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.limits import WebLimits
from nsedge.web.listening import Listener, serve
from tests.fakes import MODEL, FakeService
from tests.web_server import Connection, PuppetService, ask

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
OPENAI, OPERATIONS = doors.openai.DOOR, doors.operations.DOOR
CHAT_SERVICE = doors.chat.DOOR


async def apart(
    test: Callable[[int, int, asyncio.Event, PuppetService], Awaitable[None]],
    limits: WebLimits | None = None,
) -> None:
    """OpenAI's door at a port of its own; both ports, what stops them, and the service."""
    stop, told = asyncio.Event(), asyncio.Queue[int]()
    service = PuppetService()
    answering = Answering(service, limits)
    listeners = [
        Listener(
            app=create_app(answering, together),
            host="127.0.0.1",
            port=0,
            on_listening=lambda _, port: told.put_nowait(port),
        )
        for together in ((doors.generate.DOOR, OPERATIONS), (OPENAI,))
    ]
    serving = asyncio.create_task(serve(*listeners, stop=stop))
    async with asyncio.timeout(60):
        await test(await told.get(), await told.get(), stop, service)
        stop.set()
        await serving


def test_a_door_apart_is_there_and_nowhere_else() -> None:
    async def test(shared: int, own: int, stop: asyncio.Event, service: PuppetService) -> None:
        assert (await ask(own, "GET", "/v1/models")).status == 200
        away = await ask(shared, "GET", "/v1/models")
        assert (away.status, away.json["error"]["retryable"]) == (404, False)  # type: ignore[index]
        assert (await ask(shared, "GET", "/live")).status == 200
        assert (await ask(own, "GET", "/live")).status == 200
        strange = await ask(own, "GET", "/metrics")
        assert (strange.status, strange.json["error"]["type"]) == (  # type: ignore[index]
            404,
            "invalid_request_error",
        )

    asyncio.run(apart(test))


def test_all_listeners_count_for_one_and_drain_as_one() -> None:
    async def test(shared: int, own: int, stop: asyncio.Event, service: PuppetService) -> None:
        streaming = await Connection.open(own)
        streaming.say("POST", CHAT, HI)
        ticket = await service.ticket(0)
        ticket.start()
        await streaming.head()
        looking = await Connection.open(shared)
        looking.say("GET", "/metrics")
        assert b"nsedge_http_requests_in_progress 2" in (await looking.answer()).body
        surplus = await Connection.open(shared)
        assert (await surplus.head())[0] == 503
        stop.set()
        await asyncio.sleep(0)
        looking.say("GET", "/health")
        assert (await looking.answer()).json["status"] == "draining"
        ticket.finish()
        text = b""
        while chunk := await streaming.chunk():
            text += chunk
        assert text.endswith(b"data: [DONE]\n\n")
        for connection in (streaming, looking, surplus):
            await connection.close()

    asyncio.run(apart(test, WebLimits(max_connections=2)))


def test_every_address_is_held_to_the_same_rules() -> None:
    async def scenario() -> str:
        answering = Answering(PuppetService())
        listeners = [
            Listener(app=create_app(answering, (door,)), host=host, port=0)
            for door, host in ((OPENAI, "127.0.0.1"), (OPERATIONS, "0.0.0.0"))
        ]
        try:
            await serve(*listeners, stop=asyncio.Event())
        except ConfigInvalid as error:
            return error.message
        return ""

    assert asyncio.run(scenario()).startswith("0.0.0.0 is reachable from other machines")


def test_a_door_is_beside_the_others_and_at_an_address_of_its_own_at_once() -> None:
    async def scenario() -> list[tuple[int, bytes, int]]:
        stop, told = asyncio.Event(), asyncio.Queue[int]()
        answering = Answering(FakeService())
        together = create_app(answering)
        listeners = [
            Listener(
                app=app,
                host="127.0.0.1",
                port=0,
                on_listening=lambda _, port: told.put_nowait(port),
            )
            for app in (together, create_app(answering, (CHAT_SERVICE,), opened=[together]))
        ]
        serving = asyncio.create_task(serve(*listeners, stop=stop))
        found = []
        async with asyncio.timeout(60):
            for _ in listeners:
                port = await told.get()
                answer = await ask(port, "POST", "/chat/stream", {"messages": HI["messages"]})
                help_page = await ask(port, "GET", "/help")
                last = answer.body.splitlines()[-1]
                found.append((answer.status, last, help_page.status))
            stop.set()
            await serving
        return found

    for status, last, help_status in asyncio.run(scenario()):
        assert (status, help_status) == (200, 200)
        assert b'"type":"done"' in last
