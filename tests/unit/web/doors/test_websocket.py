"""Several requests on one WebSocket, over a real loopback socket."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import msgpack
import pytest

from nsedge.api import Chat, Embed, Media, MediaPart, Request, Sink, TextPart
from tests.fake_answers import DIMENSIONS
from tests.fakes import MODEL, FakeService, FakeTicket
from tests.unit.web.doors.websocket_client import Socket, end_of, generate, hear, talk
from tests.web_server import PuppetService, until


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
