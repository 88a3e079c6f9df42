"""Streams in time: pings, slow and vanished readers, and the shim's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from nsedge.errors import ContextExceeded, EngineFailure, InvalidParameter, QueueFull
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.ipc import PATIENCE_S
from tests.web_server import Connection, PuppetService, PuppetTicket, Shim, ask, running, until

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}], "stream": True}
SOON = WebLimits(keepalive_s=0.02)


def served(
    test: Callable[[Shim, PuppetService], Awaitable[None]], limits: WebLimits | None = None
) -> None:
    async def main() -> None:
        service = PuppetService()
        async with running(service, limits) as shim:
            await asyncio.wait_for(test(shim, service), 60)

    asyncio.run(main())


async def asked(
    shim: Shim, service: PuppetService, body: object = HI
) -> tuple[Connection, PuppetTicket]:
    """A connection that has asked, and its request at the core."""
    connection = await Connection.open(shim.port)
    connection.say("POST", CHAT, body)
    return connection, await service.ticket(len(service.tickets))


def test_silence_is_filled_with_comments() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        assert (await connection.head())[0] == 200
        assert await connection.chunk() == b": keep-alive\n\n"
        ticket.start()
        while (chunk := await connection.chunk()) == b": keep-alive\n\n":
            pass
        assert b'"role":"assistant"' in chunk
        assert await connection.chunk() == b": keep-alive\n\n"
        ticket.finish()
        assert ticket.taken
        await connection.close()

    served(test, SOON)


def test_a_refusal_after_the_first_ping_comes_as_data() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        assert (await connection.head())[0] == 200
        await connection.chunk()
        ticket.refuse(QueueFull("full"))
        while (chunk := await connection.chunk()).startswith(b":"):
            pass
        assert chunk.startswith(b'data: {"error":{"message":"full","type":"rate_limit_error"')
        assert await connection.chunk() == b""
        await connection.close()

    served(test, SOON)


FIGURES = {"context_tokens": 8, "prompt_tokens": 9}
TOO_LONG = ContextExceeded("9 tokens; the context holds 8", param="prompt", figures=FIGURES)
TOLD = b"This model's maximum context length is 8 tokens. However, your messages resulted in 9"


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_too_long_is_told_as_openai_does_before_the_stream(stream: bool) -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service, HI | {"stream": stream})
        ticket.refuse(TOO_LONG)
        answer = await connection.answer()
        assert answer.status == 400
        assert TOLD in answer.body
        assert b'"param":"messages","code":"context_length_exceeded"' in answer.body
        await connection.close()

    served(test)


def test_a_chat_too_long_is_told_as_openai_does_within_the_stream() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        await connection.head()
        await connection.chunk()
        ticket.refuse(TOO_LONG)
        while (chunk := await connection.chunk()).startswith(b":"):
            pass
        assert chunk.startswith(b'data: {"error":{"message":"' + TOLD)
        assert b'"param":"messages"' in chunk
        await connection.close()

    served(test, SOON)


def test_a_constraint_refused_within_the_stream_is_named_as_the_body_names_it() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}

    async def test(shim: Shim, service: PuppetService) -> None:
        body = HI | {"response_format": wanted}
        connection, ticket = await asked(shim, service, body)
        assert (await connection.head())[0] == 200
        await connection.chunk()
        ticket.refuse(InvalidParameter("constraint (json_schema): no", param="constraint"))
        while (chunk := await connection.chunk()).startswith(b":"):
            pass
        assert b'"message":"response_format (json_schema): no"' in chunk
        assert b'"param":"response_format"' in chunk
        await connection.close()

    served(test, SOON)


def test_a_failure_in_mid_stream_is_the_last_data() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        ticket.start()
        assert (await connection.head())[0] == 200
        await connection.chunk()
        ticket.say("a")
        ticket.refuse(EngineFailure("the step failed", retry_after_s=2))
        piece, failure = (await connection.chunk()).split(b"\n\n", 1)
        assert b'"delta":{"content":"a"}' in piece
        assert failure == (
            b'data: {"error":{"message":"the step failed","type":"server_error",'
            b'"param":null,"code":"engine_failure"}}\n\n'
        )
        assert await connection.chunk() == b""
        await connection.close()

    served(test)


def test_a_failure_before_any_byte_was_written_has_its_status() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        ticket.start()
        ticket.refuse(EngineFailure("the step failed"))
        answer = await connection.answer()
        assert (answer.status, answer.headers["x-should-retry"]) == (500, "true")
        await connection.close()

    served(test)


def test_events_that_are_ready_go_out_in_one_write() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        ticket.start()
        await connection.head()
        await connection.chunk()
        for text in "abc":
            ticket.say(text)
        assert (await connection.chunk()).count(b"data: ") == 3
        ticket.finish()
        await connection.close()

    served(test)


STAGES: dict[str, Callable[[PuppetTicket], None]] = {
    "queued": lambda ticket: None,
    "before the first token": lambda ticket: ticket.start(),
    "in mid-stream": lambda ticket: (ticket.start(), ticket.say("a"))[0],
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_a_client_that_vanishes_cancels_at_once(stage: str, stream: bool) -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service, HI | {"stream": stream})
        STAGES[stage](ticket)
        if stream and stage != "queued":
            await connection.head()
        connection.abort()
        # Two turns for the two ends of the socket, one for its loss, one for the cancellation.
        assert await until(lambda: ticket.cancelled) <= 6

    served(test)


def test_a_write_to_a_client_that_has_just_gone_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        ticket.start()
        await connection.head()
        connection.abort()
        while not ticket.cancelled:
            ticket.say("a")
            await asyncio.sleep(0)

    served(test)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_comes_after_the_client_has_gone_counts_as_taken() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        connection.abort()
        await until(lambda: ticket.cancelled)
        ticket.finish()
        assert len(ticket.taken) == 1

    served(test)


def test_every_prompt_is_cancelled_when_the_client_vanishes() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection = await Connection.open(shim.port)
        body = {"model": MODEL, "prompt": ["a", "b", "c"], "stream": True}
        connection.say("POST", "/v1/completions", body)
        first = await service.ticket(0)
        first.start()
        await connection.head()
        connection.abort()
        await until(lambda: all(ticket.cancelled for ticket in service.tickets))
        assert len(service.tickets) == 3

    served(test)


async def never_reads(shim: Shim, service: PuppetService) -> PuppetTicket:
    """A client with a small window that reads nothing, and more text than fits between."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", shim.port))
    connection = Connection(*await asyncio.open_connection(sock=sock))
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection.say("POST", CHAT, HI)
    ticket = await service.ticket(len(service.tickets))
    ticket.start()
    for _ in range(200):
        ticket.say("x" * 50_000)
        await asyncio.sleep(0)
    return ticket


def test_events_of_a_reader_that_stands_still_stay_untaken() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        ticket = await never_reads(shim, service)
        assert len(ticket.taken) < 150

    served(test)


def test_a_reader_that_takes_nothing_is_cut_and_its_request_cancelled() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        ticket = await never_reads(shim, service)
        await until(lambda: ticket.cancelled)
        assert len(ticket.taken) == 201

    served(test, WebLimits(keepalive_s=0.05, write_timeout_s=0.1))


def test_a_bug_in_mid_stream_ends_it_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        ticket.start()
        ticket.say(object())  # type: ignore[arg-type]
        answer = await connection.answer()
        assert b'"message":"internal error"' in answer.body
        assert ticket.cancelled
        await connection.close()

    served(test)
    assert "a stream broke off" in caplog.text


def test_a_stream_may_end_by_itself_while_the_shim_stops() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service)
        other = await Connection.open(shim.port)
        other.say("GET", "/health")
        assert (await other.answer()).status == 200
        ticket.start()
        await connection.head()
        shim.stop.set()
        await asyncio.sleep(0)
        other.say("GET", "/health")
        health = await other.answer()
        assert (health.status, health.json["status"]) == (503, "draining")
        other.say("POST", CHAT, HI)
        assert (await other.answer()).status == 503
        with pytest.raises(OSError):
            await Connection.open(shim.port)
        ticket.say("a")
        ticket.finish()
        text = b""
        while chunk := await connection.chunk():
            text += chunk
        assert text.endswith(b"data: [DONE]\n\n")
        await shim.task

    served(test)


@pytest.mark.parametrize("stream", [True, False])
def test_after_the_deadline_what_runs_ends_with_an_error(stream: bool) -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        connection, ticket = await asked(shim, service, HI | {"stream": stream})
        ticket.start()
        shim.stop.set()
        answer = await connection.answer()
        assert answer.status == (200 if stream else 503)
        assert b'"code":"draining"' in answer.body
        await shim.task
        assert ticket.cancelled

    served(test, WebLimits(drain_s=0))


def test_an_idle_shim_stops_at_once() -> None:
    async def test(shim: Shim, service: PuppetService) -> None:
        await ask(shim.port, "GET", "/live")
        shim.stop.set()
        await asyncio.wait_for(shim.task, PATIENCE_S)

    served(test, WebLimits(drain_s=3600))


def test_a_flood_is_answered_to_the_last_and_leaves_nothing() -> None:
    async def main() -> None:
        service = FakeService(max_requests=4, gate=asyncio.Event())
        async with running(service) as shim:
            asking = [asyncio.create_task(ask(shim.port, "POST", CHAT, HI)) for _ in range(200)]
            await until(lambda: sum(one.done() for one in asking) == 196)
            assert service.gate is not None
            service.gate.set()
            statuses = [answer.status for answer in await asyncio.gather(*asking)]
            assert (statuses.count(200), statuses.count(429)) == (4, 196)
            assert not service.live

    asyncio.run(asyncio.wait_for(main(), 60))
