"""The clients against a real server, and against peers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio

from nsedge import api
from nsedge.errors import ConfigInvalid, ConnectionLost, NsedgeError, UnsupportedVersion
from nsedge.ipc import client as door
from nsedge.ipc import protocol
from nsedge.ipc.client import AsyncClient, Client, Delta, Failed, Finished, Message, Role
from nsedge.ipc.limits import Limits
from nsedge.ipc.server import Server
from tests.fakes import MODEL, FakeService
from tests.ipc import PATIENCE_S, QUICK, gathered, serving, short_directory, text_of, until

SMALL = Limits(sweep_s=0.01, initial_credit_bytes=400)
AGAIN = (0.01, 0.02)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_the_public_surface() -> None:
    names = {name for name in vars(door) if not name.startswith("_")}
    assert names == set(door.__all__)
    assert sorted(door.__all__) == [
        "AsyncClient",
        "Client",
        "Delta",
        "Event",
        "EventStream",
        "Events",
        "Failed",
        "FinishReason",
        "Finished",
        "Health",
        "HealthStatus",
        "Message",
        "ModelInfo",
        "ModelState",
        "ModelStats",
        "NsedgeError",
        "Role",
        "Sampling",
        "Started",
        "Stats",
        "Timings",
        "Usage",
    ]
    both = {"chat", "close", "connected", "generate", "health", "models", "stats"}
    assert {name for name in vars(Client) if not name.startswith("_")} == both
    assert both < set(vars(AsyncClient))


def test_generate_and_chat() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            events = await gathered(client.generate(MODEL, "one two"))
            assert text_of(events) == "one two"
            assert isinstance(events[-1], Finished)
            said = [Message(role=Role.USER, content="three four")]
            events = await gathered(client.chat(MODEL, said, request_id="mine"))
            assert text_of(events) == "three four"
            assert {event.request_id for event in events} == {"mine"}

    run(scenario())


def test_a_reader_that_keeps_up_is_granted_credit_anew() -> None:
    async def scenario() -> None:
        async with serving(FakeService(), limits=SMALL) as endpoint:
            for options in ({}, {"credit_bytes": 1}, {"credit_bytes": 10**9}):
                async with AsyncClient(endpoint, **options) as client:
                    text = " ".join(f"word{n}" for n in range(300))
                    events = await gathered(client.generate(MODEL, text))
                    assert text_of(events) == text
                    ids = [
                        n for event in events if isinstance(event, Delta) for n in event.token_ids
                    ]
                    assert ids == list(range(300))

    run(scenario())


@pytest.mark.parametrize("way", ["break", "error", "with", "task", "cancel"])
def test_leaving_cancels(way: str) -> None:
    async def scenario() -> None:
        service = FakeService(repeat=10**6)
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            await leave(client, way)
            gc.collect()
            await until(lambda: service.cancelled == 1 and not service.live)

    run(scenario())


async def leave(client: AsyncClient, way: str) -> None:
    if way == "break":
        async for event in client.generate(MODEL, "x"):
            if isinstance(event, Delta):
                break
    elif way == "error":
        with pytest.raises(ZeroDivisionError):
            await stumble(client)
    elif way == "with":
        async with client.generate(MODEL, "x") as events:
            await anext(events)
    elif way == "task":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gathered(client.generate(MODEL, "x")), 0.05)
    else:
        stream = client.generate(MODEL, "x")
        await anext(stream)
        stream.cancel()
        end = (await gathered(stream))[-1]
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"


async def stumble(client: AsyncClient) -> None:
    async for event in client.generate(MODEL, "x"):
        if isinstance(event, Delta):
            raise ZeroDivisionError


def test_refusals_are_events() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            hot = api.Sampling(temperature=99.0)
            cases = [
                (client.generate("nope", "x"), "unknown_model"),
                (client.generate(MODEL, ""), "empty_prompt"),
                (
                    client.generate(MODEL, "x", sampling=api.Sampling(top_p=2.0)),
                    "invalid_parameter",
                ),
                (client.generate(MODEL, "\ud800"), "invalid_request"),
                (client.generate(MODEL, "x", request_id="y" * 200), "invalid_request"),
                (client.generate(MODEL, "x" * QUICK.max_message_bytes), "message_too_large"),
            ]
            for stream, code in cases:
                (failure,) = await gathered(stream)
                assert isinstance(failure, Failed)
                assert failure.code == code
            assert client.connected

    run(scenario())


def test_a_live_id_is_refused_here_already() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            first = client.generate(MODEL, "x", request_id="a")
            (failure,) = await gathered(client.generate(MODEL, "y", request_id="a"))
            assert isinstance(failure, Failed)
            assert failure.code == "out_of_order"
            assert service.gate is not None
            service.gate.set()
            assert text_of(await gathered(first)) == "x"

    run(scenario())


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
                request = api.Request(request_id="a", model=MODEL, prompt=api.TextPrompt(text="x"))
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


def test_a_sink_that_fails_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    def sink(event: api.Event) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, AsyncClient(endpoint) as client:
            request = api.Request(request_id="a", model=MODEL, prompt=api.TextPrompt(text="x"))
            client.submit(request, sink)
            assert text_of(await gathered(client.generate(MODEL, "y"))) == "y"

    run(scenario())
    assert "the sink of request 'a' failed" in caplog.text


WELCOME = {
    "type": "welcome",
    "protocol": "1.0",
    "server": "fake",
    "session": b"s" * 16,
    "heartbeat_s": 0.01,
    "liveness_s": 0.03,
    "max_message_bytes": 1000,
    "initial_credit_bytes": 1000,
    "max_credit_bytes": 1000,
    "control_suffix": ".control",
    "control_port_offset": 1,
}


class Impostor:
    """A daemon that says what it is told to, and never a word more."""

    def __init__(self, endpoint: str, *answers: bytes | dict[str, Any]) -> None:
        self._context = zmq.asyncio.Context()
        self._data = self._context.socket(zmq.ROUTER)
        self._data.bind(endpoint)
        self._answers = answers
        self.hellos = 0
        self._task = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        while True:
            peer, *_ = await self._data.recv_multipart()
            self.hellos += 1
            for answer in self._answers:
                frame = answer if isinstance(answer, bytes) else msgpack.packb(answer)
                await self._data.send_multipart([peer, protocol.MAGIC, frame])

    def close(self) -> None:
        self._task.cancel()
        self._context.destroy(linger=0)


@contextmanager
def impostor(*answers: bytes | dict[str, Any]) -> Iterator[tuple[str, Impostor]]:
    with short_directory() as directory:
        endpoint = f"ipc://{directory}/core.sock"
        daemon = Impostor(endpoint, *answers)
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


def test_malformed_endpoints_are_refused() -> None:
    for kind in (AsyncClient, Client):
        with pytest.raises(ConfigInvalid):
            kind("nonsense")


@contextmanager
def daemon_thread(service: FakeService, limits: Limits = QUICK) -> Iterator[str]:
    """A server on a loop of its own, for clients that block."""
    ready, stop = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        async with serving(service, limits=limits) as endpoint:
            found.update(endpoint=endpoint, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield found["endpoint"]
    finally:
        found["loop"].call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_the_synchronous_client() -> None:
    with daemon_thread(FakeService(), SMALL) as endpoint, Client(endpoint) as client:
        text = " ".join(f"word{n}" for n in range(300))
        assert text_of(list(client.generate(MODEL, text))) == text
        said = [Message(role=Role.USER, content="hi there")]
        events = list(client.chat(MODEL, said, request_id="mine"))
        assert text_of(events) == "hi there"
        assert {event.request_id for event in events} == {"mine"}
        assert client.health().status == "ready"
        assert client.models()[0].name == MODEL
        assert client.stats().requests_accepted == 2
        assert client.connected
        (failure,) = client.generate("nope", "x")
        assert isinstance(failure, Failed)
        assert failure.code == "unknown_model"


@pytest.mark.parametrize("way", ["break", "with", "cancel"])
def test_leaving_the_synchronous_loop_cancels(way: str) -> None:
    service = FakeService(repeat=10**6)
    with daemon_thread(service) as endpoint, Client(endpoint) as client:
        if way == "break":
            for event in client.generate(MODEL, "x"):
                if isinstance(event, Delta):
                    break
        elif way == "with":
            with client.generate(MODEL, "x") as events:
                next(events)
        else:
            stream = client.generate(MODEL, "x")
            next(stream)
            stream.cancel()
            end = list(stream)[-1]
            assert isinstance(end, Finished)
            assert end.reason == "cancelled"
        gc.collect()
        asyncio.run(until(lambda: service.cancelled == 1 and not service.live))


def test_the_synchronous_client_closes_for_good() -> None:
    with daemon_thread(FakeService(repeat=10**6)) as endpoint:
        client = Client(endpoint)
        stream = client.generate(MODEL, "x")
        next(stream)
        client.close()
        client.close()
        end = list(stream)[-1]
        assert isinstance(end, Failed)
        assert end.code == "connection_lost"
        with pytest.raises(ConnectionLost):
            client.health()
        with pytest.raises(ConnectionLost):
            client.generate(MODEL, "x")


def test_the_synchronous_client_says_that_nobody_is_there() -> None:
    threads = threading.active_count()
    with short_directory() as directory, pytest.raises(ConnectionLost, match="nsedge serve"):
        Client(f"ipc://{directory}/none", connect_timeout_s=0.05)
    assert threading.active_count() == threads
