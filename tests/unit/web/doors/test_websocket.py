"""Several requests on one WebSocket, over a real loopback socket."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from nsedge.api import Chat, Embed, Media, MediaPart, Request, Sink, TextPart
from nsedge.errors import QueueFull
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.doors.websocket import Connection
from nsedge.web.limits import WebLimits
from nsedge.web.outgoing import MOST_UNSENT
from tests.fakes import DIMENSIONS, MODEL, FakeService, FakeTicket
from tests.web_server import PuppetService, Shim, served, until

Socket = aiohttp.ClientWebSocketResponse
Talk = Callable[[Socket], Awaitable[None]]


def generate(label: str, text: str = "one two three", **fields: Any) -> dict[str, Any]:
    return {"type": "generate", "id": label, "model": MODEL, "text": text, **fields}


async def hear(socket: Socket) -> dict[str, Any]:
    """The next message, in the form it came in."""
    message = await socket.receive(5)
    if message.type is aiohttp.WSMsgType.TEXT:
        return json.loads(message.data)
    assert message.type is aiohttp.WSMsgType.BINARY, message
    return msgpack.unpackb(message.data, strict_map_key=False)


async def end_of(socket: Socket, label: str) -> list[dict[str, Any]]:
    """All messages until that request's end."""
    heard = [await hear(socket)]
    while not (heard[-1].get("id") == label and heard[-1]["type"] in ("finished", "failed")):
        heard.append(await hear(socket))
    return heard


def talk(
    said: Talk, service: FakeService | None = None, limits: WebLimits | None = None, **options: Any
) -> FakeService:
    """Open a socket and have `said` speak over it."""
    headers = options.pop("headers", {})
    used = service or FakeService()

    async def test(shim: Shim) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{shim.url}/v1/stream", headers=headers) as socket,
        ):
            await said(socket)

    served(test, used, limits, **options)
    return used


def test_json_to_the_letter() -> None:
    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a", "one")))
        told = [(await socket.receive(5)).data for _ in range(3)]
        assert told == [
            '{"type":"started","id":"a","prompt_tokens":1,"queue_s":0.0}',
            '{"type":"delta","id":"a","seq":0,"text":"one","token_ids":[0]}',
            '{"type":"finished","id":"a","reason":"stop","usage":{"prompt_tokens":1,'
            '"completion_tokens":1,"cached_tokens":0,"audio_s":0.0,"images":0,"steps":0,'
            '"media_tokens":0},'
            '"timings":{"queue_s":0.0,"prefill_s":0.0,"decode_s":0.0}}',
        ]

    talk(said)


def test_msgpack_is_what_zeromq_carries() -> None:
    async def said(socket: Socket) -> None:
        await socket.send_bytes(msgpack.packb(generate("a", "one")))
        heard = await end_of(socket, "a")
        assert [one["type"] for one in heard] == ["started", "delta", "finished"]
        assert heard[1] == {"type": "delta", "id": "a", "seq": 0, "text": "one", "token_ids": [0]}
        embed = {"type": "embed", "id": "b", "model": MODEL, "inputs": ["x"]}
        await socket.send_bytes(msgpack.packb(embed))
        vectors = (await end_of(socket, "b"))[1]
        assert (vectors["shape"], len(vectors["data"])) == ([1, DIMENSIONS], 4 * DIMENSIONS)

    service = talk(said)
    assert isinstance(service.requests[1].task, Embed)


def test_requests_side_by_side_end_once_each() -> None:
    async def said(socket: Socket) -> None:
        labels = [f"r{number}" for number in range(8)]
        for label in labels:
            await socket.send_str(json.dumps(generate(label, f"this is {label}")))
        texts, ends = dict.fromkeys(labels, ""), list[str]()
        while len(ends) < len(labels):
            event = await hear(socket)
            if event["type"] == "delta":
                texts[event["id"]] += event["text"]
            elif event["type"] == "finished":
                ends.append(event["id"])
        assert sorted(ends) == labels
        assert texts == {label: f"this is {label}" for label in labels}

    service = talk(said)
    assert len({request.request_id for request in service.requests}) == 8


def test_a_chat_with_a_picture() -> None:
    async def said(socket: Socket) -> None:
        parts = [
            {"type": "text", "text": "see"},
            {"type": "media", "media_type": "image/png", "data": b64encode(b"png").decode()},
        ]
        message = {"role": "user", "content": parts}
        asked = {"type": "chat", "id": "a", "model": MODEL, "messages": [message]}
        await socket.send_str(json.dumps(asked))
        assert (await end_of(socket, "a"))[-1]["type"] == "finished"
        parts[1] = {"type": "media", "media_type": "image/png", "sha256": "ab" * 32}
        await socket.send_str(json.dumps({**asked, "id": "b"}))
        assert (await end_of(socket, "b"))[-1]["code"] == "unknown_media"

    task = talk(said).requests[0].task
    assert isinstance(task, Chat)
    shown = MediaPart(media=Media(type="image/png", data=b"png"))
    assert task.messages[0].content == (TextPart(text="see"), shown)


def test_cancel_ends_one_and_leaves_the_others() -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        for label in ("a", "b"):
            await socket.send_str(json.dumps(generate(label)))
        first, second = await service.ticket(0), await service.ticket(1)
        await socket.send_str('{"type":"cancel","id":"a"}')
        await socket.send_str('{"type":"cancel","id":"unknown"}')
        await until(lambda: first.cancelled)
        assert not second.cancelled
        second.finish()
        assert (await hear(socket))["id"] == "b"
        await socket.send_str('{"type":"ping"}')
        assert await hear(socket) == {"type": "pong"}

    talk(said, service)


def test_without_credit_results_wait_and_come_joined() -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a", credit=1)))
        ticket = await service.ticket()
        for text in ("a", "b", "c"):
            ticket.say(text)
        ticket.finish()
        first = await hear(socket)
        assert (first["type"], first["text"]) == ("delta", "a")
        await until(lambda: len(ticket.taken) == 1)
        await socket.send_str('{"type":"credit","id":"a","bytes":1000}')
        joined = await hear(socket)
        assert (joined["text"], joined["token_ids"]) == ("bc", [1, 1])
        assert (await hear(socket))["type"] == "finished"
        await until(lambda: len(ticket.taken) == 4)

    talk(said, service)


@pytest.mark.parametrize(
    ("message", "code", "label"),
    [
        ("{", "bad_message", None),
        ('{"type":"hello"}', "bad_message", None),
        ('{"type":"generate","id":"x"}', "bad_message", "x"),
        ('{"type":"generate","id":7}', "bad_message", None),
        (json.dumps(generate("x", model="none")), "unknown_model", "x"),
        (json.dumps(generate("x", sampling={"temperature": -1})), "invalid_parameter", "x"),
        (b"\x80", "bad_message", None),
    ],
)
def test_what_cannot_be_served_is_told_and_ends_nothing_else(
    message: str | bytes, code: str, label: str | None
) -> None:
    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a", "one")))
        await end_of(socket, "a")
        if isinstance(message, str):
            await socket.send_str(message)
        else:
            await socket.send_bytes(message)
        failed = await hear(socket)
        assert (failed["type"], failed["code"], failed.get("id")) == ("failed", code, label)
        await socket.send_str(json.dumps(generate("x", "one")))
        assert (await end_of(socket, "x"))[-1]["type"] == "finished"

    talk(said)


def test_a_field_that_there_is_not_is_named_in_either_form() -> None:
    misspelt = generate("a", sampling={"temprature": 0})

    async def said_in_text(socket: Socket) -> None:
        await socket.send_str(json.dumps(misspelt))
        await check(socket)

    async def said_in_binary(socket: Socket) -> None:
        await socket.send_bytes(msgpack.packb(misspelt))
        await check(socket)

    async def check(socket: Socket) -> None:
        failed = await hear(socket)
        assert (failed["id"], failed["code"]) == ("a", "bad_message")
        assert failed["param"] == "sampling.temprature"

    talk(said_in_text)
    talk(said_in_binary)


def test_a_message_that_does_not_fit_names_its_field() -> None:
    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a", text=3)))
        failed = await hear(socket)
        assert (failed["id"], failed["code"], failed["param"]) == ("a", "bad_message", "text")

    talk(said)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "credit", "id": "a", "bytes": -1}, "bytes"),
        (generate("a", sampling={"temperature": -1}), "temperature"),
    ],
)
def test_what_is_refused_does_not_end_a_request_of_its_id(
    message: dict[str, Any], param: str
) -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a")))
        ticket = await service.ticket()
        await socket.send_str(json.dumps(message))
        failed = await hear(socket)
        assert (failed["type"], failed["param"]) == ("failed", param)
        assert "id" not in failed
        ticket.finish()
        assert [event["type"] for event in await end_of(socket, "a")] == ["finished"]

    talk(said, service)


class Broken(FakeService):
    def submit(self, request: Request, sink: Sink) -> FakeTicket:
        raise RuntimeError("a fault of ours")


def test_a_fault_of_ours_ends_its_request_alone() -> None:
    async def said(socket: Socket) -> None:
        for label in ("a", "a"):
            await socket.send_str(json.dumps(generate(label)))
            failed = await hear(socket)
            assert (failed["id"], failed["code"]) == (label, "internal")

    talk(said, Broken())


def test_an_id_in_use_is_refused_and_its_request_goes_on() -> None:
    service = PuppetService()

    async def said(socket: Socket) -> None:
        await socket.send_str(json.dumps(generate("a")))
        ticket = await service.ticket()
        await socket.send_str(json.dumps(generate("a")))
        failed = await hear(socket)
        assert (failed["code"], "id" in failed) == ("out_of_order", False)
        ticket.finish()
        assert (await hear(socket))["type"] == "finished"
        assert len(service.tickets) == 1

    talk(said, service)


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
