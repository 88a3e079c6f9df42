"""Connections that never come about, end, or fall silent; and how the client comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio

from nsedge import api
from nsedge.errors import ConnectionLost, NsedgeError, UnsupportedVersion
from nsedge.ipc import protocol
from nsedge.ipc.client import AsyncClient, Failed
from nsedge.ipc.server import Server
from tests.fakes import MODEL, FakeService
from tests.ipc import PATIENCE_S, gathered, serving, short_directory, text_of, until

AGAIN = (0.01, 0.02)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_nobody_there_is_told_with_a_remedy() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            client = AsyncClient(f"ipc://{directory}/none", connect_timeout_s=0.05)
            with pytest.raises(ConnectionLost, match=r"ipc://.*/none .*nsedge serve"):
                await client.connect()
            with pytest.raises(ConnectionLost):
                await client.models()
            (failure,) = await gathered(client.generate(MODEL, "x"))
            assert isinstance(failure, Failed)
            assert failure.code == "connection_lost"

    run(scenario())


def test_a_daemon_that_starts_late_is_waited_for() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            endpoint = f"ipc://{directory}/core.sock"
            client = AsyncClient(endpoint, connect_timeout_s=PATIENCE_S)
            connecting = asyncio.create_task(client.connect())
            await asyncio.sleep(0)
            server = Server(FakeService(), endpoints=[endpoint])
            await server.start()
            await connecting
            assert client.connected
            await client.close()
            await server.stop()

    run(scenario())


def test_a_lost_daemon_ends_what_is_live_once_and_comes_back() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            endpoint = f"ipc://{directory}/core.sock"
            service = FakeService(gate=asyncio.Event())
            server = Server(service, endpoints=[endpoint])
            await server.start()
            async with AsyncClient(endpoint, backoff_s=AGAIN) as client:
                seen: list[api.Event] = []
                request = api.Request(request_id="a", model=MODEL, task=api.Generate(text="x"))
                client.submit(request, seen.append)
                await until(lambda: len(seen) == 1)
                await server.stop()
                await until(lambda: not client.connected)
                assert [getattr(event, "code", "") for event in seen] == ["", "draining"]
                (failure,) = await gathered(client.generate(MODEL, "x"))
                assert isinstance(failure, Failed)
                assert (failure.code, failure.retryable) == ("connection_lost", True)
                assert failure.retry_after_s is not None
                with pytest.raises(ConnectionLost):
                    await client.health()
                server = Server(FakeService(), endpoints=[endpoint])
                await server.start()
                await until(lambda: client.connected)
                assert text_of(await gathered(client.generate(MODEL, "back"))) == "back"
                assert len(seen) == 2
            await server.stop()

    run(scenario())


def test_whoever_wants_in_cuts_the_pause_short() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            endpoint = f"ipc://{directory}/core.sock"
            server = Server(FakeService(), endpoints=[endpoint])
            await server.start()
            client = AsyncClient(
                endpoint,
                connect_timeout_s=PATIENCE_S,
                backoff_s=(0.01, 3600.0),
                jitter=lambda: -720_000.0,  # which makes the first pause an hour
            )
            async with client:
                await server.stop()
                await until(lambda: not client.connected)
                server = Server(FakeService(), endpoints=[endpoint])
                await server.start()
                (failure,) = await gathered(client.generate(MODEL, "x"))
                assert isinstance(failure, Failed)
                await until(lambda: client.connected)
            await server.stop()

    run(scenario())


def test_closing_ends_what_is_live_once() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint:
            client = AsyncClient(endpoint)
            await client.connect()
            await client.connect()
            stream = client.generate(MODEL, "x")
            await anext(stream)
            asking = asyncio.create_task(client.stats())
            await asyncio.sleep(0)
            await client.close()
            await client.close()
            (failure,) = await gathered(stream)
            assert isinstance(failure, Failed)
            assert failure.code == "connection_lost"
            with pytest.raises(ConnectionLost):
                await asking
            await until(lambda: service.cancelled == 1)

    run(scenario())


WELCOME = {
    "type": "welcome",
    "protocol": "1.0",
    "server": "fake",
    "session": b"s" * 16,
    "heartbeat_s": 0.01,
    "liveness_s": 0.05,
    "max_message_bytes": 1000,
    "initial_credit_bytes": 1000,
    "max_credit_bytes": 1000,
    "control_suffix": ".control",
    "control_port_offset": 1,
}


Answer = bytes | dict[str, Any]


class Impostor:
    """A daemon that answers a hello, and a ping, as it is told to, and never says a word more."""

    def __init__(self, endpoint: str, hello: Answer, ping: Answer | None) -> None:
        self._context = zmq.asyncio.Context()
        self.hellos = 0
        self.pings = 0
        data, control = self._router(endpoint), self._router(f"{endpoint}.control")
        self._tasks = [asyncio.create_task(self._welcome(data, hello))]
        if ping is not None:
            self._tasks.append(asyncio.create_task(self._answer(control, ping)))

    def _router(self, endpoint: str) -> zmq.asyncio.Socket:
        socket = self._context.socket(zmq.ROUTER)
        socket.bind(endpoint)
        return socket

    async def _welcome(self, socket: zmq.asyncio.Socket, answer: Answer) -> None:
        while True:
            peer, _, frame = await socket.recv_multipart()
            if msgpack.unpackb(frame)["type"] == "hello":
                self.hellos += 1
                await self._say(socket, peer, answer)

    async def _answer(self, socket: zmq.asyncio.Socket, answer: Answer) -> None:
        while True:
            peer, *_ = await socket.recv_multipart()
            self.pings += 1
            await self._say(socket, peer, answer)

    async def _say(self, socket: zmq.asyncio.Socket, peer: bytes, answer: Answer) -> None:
        frame = answer if isinstance(answer, bytes) else msgpack.packb(answer)
        await socket.send_multipart([peer, protocol.MAGIC, frame])

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._context.destroy(linger=0)


@contextmanager
def impostor(hello: Answer, ping: Answer | None = None) -> Iterator[tuple[str, Impostor]]:
    with short_directory() as directory:
        endpoint = f"ipc://{directory}/core.sock"
        daemon = Impostor(endpoint, hello, ping)
        try:
            yield endpoint, daemon
        finally:
            daemon.close()


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (
            {
                "type": "failed",
                "code": "unsupported_version",
                "message": "only 9.0 here",
                "retryable": False,
            },
            UnsupportedVersion,
            "only 9.0 here",
        ),
        (b"\xc1", NsedgeError, "not a message"),
    ],
)
def test_a_refused_hello_is_raised(
    answer: bytes | dict[str, Any], error: type[NsedgeError], match: str
) -> None:
    async def scenario() -> None:
        with impostor(answer) as (endpoint, _), pytest.raises(error, match=match):
            await AsyncClient(endpoint, connect_timeout_s=PATIENCE_S).connect()

    run(scenario())


def test_a_silent_daemon_is_given_up_and_tried_anew() -> None:
    async def scenario() -> None:
        with impostor(WELCOME) as (endpoint, daemon):
            jitters: list[float] = []

            def jitter() -> float:
                jitters.append(0.5)
                return 0.5

            async with AsyncClient(endpoint, backoff_s=AGAIN, jitter=jitter) as client:
                (failure,) = await gathered(client.generate(MODEL, "x"))
                assert isinstance(failure, Failed)
                assert failure.code == "connection_lost"
                assert "silent" in failure.message
                hellos = daemon.hellos
                await until(lambda: daemon.hellos > hellos)
                assert jitters

    run(scenario())


FORGOTTEN = {
    "type": "failed",
    "code": "out_of_order",
    "message": "there is no such session",
    "retryable": False,
}


@pytest.mark.parametrize(
    ("answer", "why"), [(FORGOTTEN, "no such session"), (b"\xc1", "not a message")]
)
def test_a_daemon_that_has_forgotten_the_session_is_greeted_anew(answer: Answer, why: str) -> None:
    async def scenario() -> None:
        with impostor(WELCOME, answer) as (endpoint, daemon):
            async with AsyncClient(endpoint, backoff_s=AGAIN) as client:
                (failure,) = await gathered(client.generate(MODEL, "x"))
                assert isinstance(failure, Failed)
                assert (failure.code, failure.retryable) == ("connection_lost", True)
                assert why in failure.message
                await until(lambda: daemon.hellos > 1)

    run(scenario())


def test_a_daemon_that_answers_its_pings_is_kept() -> None:
    patient = WELCOME | {"heartbeat_s": 0.005, "liveness_s": 1.0}  # 200 pings without an answer

    async def scenario() -> None:
        with impostor(patient, {"type": "pong"}) as (endpoint, daemon):
            async with AsyncClient(endpoint, backoff_s=AGAIN) as client:
                await until(lambda: daemon.pings > 250)
                assert client.connected
                assert daemon.hellos == 1

    run(scenario())
