"""What a WebSocket bounds and who may open one: rates, origins, readers that are slow, sound."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from nsedge.errors import QueueFull
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.doors.websocket import Connection
from nsedge.web.limits import WebLimits
from nsedge.web.outgoing import MOST_UNSENT
from tests.fakes import MODEL, FakeService
from tests.unit.web.doors.websocket_client import Socket, end_of, generate, hear, talk
from tests.web_server import PuppetService, Shim, served, until


def test_so_many_requests_and_no_more() -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        for label in ("a", "b", "c"):
            await socket.send_str(json.dumps(generate(label)))
        failed = await hear(socket)
        assert (failed["id"], failed["code"]) == ("c", QueueFull.code)
        (await service.ticket(0)).finish()
        await hear(socket)
        await socket.send_str(json.dumps(generate("d")))
        (await service.ticket(2)).finish()
        assert (await hear(socket))["id"] == "d"

    talk(said, service, WebLimits(max_in_flight=2))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (lambda number: {"type": "ping"}, "pong"),
        (lambda number: {"type": "nothing"}, "failed"),
        (lambda number: generate(f"r{number}", model="none"), "failed"),
    ],
)
def test_who_reads_nothing_is_heard_no_further(
    said: Callable[[int], dict[str, Any]], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is to be said to him would take any memory."""
    moves, heard, count = asyncio.Event(), list[object](), 500
    send, hear_one = aiohttp.web.WebSocketResponse.send_str, Connection._hear

    async def stuck(self: aiohttp.web.WebSocketResponse, data: str) -> None:
        await moves.wait()
        await send(self, data)

    def hearing(self: Connection, message: aiohttp.WSMessage) -> None:
        heard.append(message)
        hear_one(self, message)

    monkeypatch.setattr(aiohttp.web.WebSocketResponse, "send_str", stuck)
    monkeypatch.setattr(Connection, "_hear", hearing)

    async def talked(socket: Socket) -> None:
        for number in range(count):
            await socket.send_str(json.dumps(said(number)))
        await until(lambda: len(heard) >= MOST_UNSENT)
        for _ in range(count):
            await asyncio.sleep(0)
        assert len(heard) < count
        moves.set()
        assert [(await hear(socket))["type"] for _ in range(count)] == [told] * count

    talk(talked)


def test_a_client_that_leaves_cancels_what_runs() -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        for label in ("a", "b"):
            await socket.send_str(json.dumps(generate(label)))
        await service.ticket(1)
        await socket.close()
        await until(lambda: all(ticket.cancelled for ticket in service.tickets))

    talk(said, service)


def test_stopping_ends_what_runs() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{shim.url}/v1/stream") as socket,
        ):
            await socket.send_str(json.dumps(generate("a")))
            await service.ticket()
            shim.stop.set()
            failed = await hear(socket)
            assert (failed["id"], failed["code"]) == ("a", "draining")
            assert (await socket.receive(5)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
            await asyncio.wait_for(shim.task, 60)

    served(test, service, WebLimits(drain_s=0))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://listed.example", 101),
        ("http://other.example", 403),
    ],
)
def test_pages_of_other_origins_may_not_connect(origin: str | None, status: int) -> None:
    async def test(shim: Shim) -> None:
        headers = {} if origin is None else {"Origin": origin}
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(f"{shim.url}/v1/stream", headers=headers):
                    got = 101
            except aiohttp.WSServerHandshakeError as error:
                got = error.status
        assert got == status

    served(test, limits=WebLimits(cors_origins=("http://listed.example",)))


def test_keys_and_rates_hold(tmp_path: Path) -> None:
    keys = tuple(
        ApiKey(name=name, sha256=keyring.digest_of(name), scopes=(scope,), requests_per_minute=2)
        for name, scope in (("k", Scope.INFER), ("r", Scope.READ))
    )
    keyring.write(tmp_path / "keys.json", KeyRing(api=keys))
    watched = WatchedFile(tmp_path / "keys.json", keyring.read)

    async def test(shim: Shim) -> None:
        url = f"{shim.url}/v1/stream"
        async with aiohttp.ClientSession() as session:
            for key, status in (("wrong", 401), ("r", 403)):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(url, headers={"Authorization": f"Bearer {key}"})
                assert caught.value.status == status
            async with session.ws_connect(url, headers={"X-Api-Key": "k"}) as socket:
                await socket.send_str(json.dumps(generate("a", "one")))
                assert (await end_of(socket, "a"))[-1]["type"] == "finished"
                await socket.send_str(json.dumps(generate("b", "one")))
                failed = await hear(socket)
                assert (failed["id"], failed["code"]) == ("b", "rate_limited")
                assert failed["retryable"]

    served(test, keys=watched)


def test_what_is_no_websocket_is_told_so() -> None:
    async def test(shim: Shim) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{shim.url}/v1/stream") as answer,
        ):
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "invalid_request"

    served(test)


def test_sound_that_comes_is_heard_in_both_forms() -> None:
    asked = {"type": "listen", "id": "a", "model": MODEL, "partials": False}

    async def in_text(socket: Socket) -> None:
        data = b64encode(b"one two").decode()
        await socket.send_str(json.dumps(asked))
        await socket.send_str(json.dumps({"type": "audio", "id": "a", "data": data, "then": "end"}))
        heard = await end_of(socket, "a")
        assert [one["text"] for one in heard if one["type"] == "segment"] == ["one two"]
        assert heard[-1]["type"] == "finished"

    async def in_binary(socket: Socket) -> None:
        await socket.send_bytes(msgpack.packb(asked))
        sound = {"type": "audio", "id": "a", "data": bytes(300_000), "then": "clear"}
        for _ in range(3):
            await socket.send_bytes(msgpack.packb(sound))
            while (told := await hear(socket))["type"] != "credit":
                pass
            assert 262_144 <= told["bytes"] <= 300_000
        await socket.send_bytes(msgpack.packb({**sound, "data": b"one", "then": "end"}))
        heard = await end_of(socket, "a")
        assert [one["text"] for one in heard if one["type"] == "segment"] == ["one"]

    talk(in_text)
    talk(in_binary)


def test_sound_that_comes_too_fast_ends_its_request_alone() -> None:
    async def said(socket: Socket) -> None:
        listen = {"type": "listen", "id": "a", "model": MODEL}
        await socket.send_bytes(msgpack.packb(listen))
        sound = {"type": "audio", "id": "a", "data": bytes(400_000)}
        for _ in range(2):
            await socket.send_bytes(msgpack.packb(sound))
        failed = (await end_of(socket, "a"))[-1]
        assert (failed["code"], failed["param"]) == ("out_of_order", "data")
        await socket.send_bytes(msgpack.packb(generate("b", "one")))
        assert (await end_of(socket, "b"))[-1]["type"] == "finished"

    talk(said, FakeService(load_steps=1, pace_s=0.2))
