"""The synchronous client against a real server on another thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nsedge.errors import ConnectionLost, UnknownModel
from nsedge.ipc.client import Client, Delta, Failed, Finished, Media, Message, Role
from nsedge.ipc.limits import Limits
from tests.fake_answers import vector
from tests.fakes import MODEL, FakeService
from tests.ipc import PATIENCE_S, QUICK, serving, short_directory, text_of, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SMALL = Limits(sweep_s=0.01, initial_credit_bytes=400)


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
        found = client.embed(MODEL, ["one", (1, 2), "two"]).embeddings()
        assert found.array.tobytes() == b"".join(map(vector, ("one", (1, 2), "two")))
        with pytest.raises(UnknownModel):
            client.embed("nope", "x").embeddings()
        whole = client.transcribe(MODEL, b"one two", language="de", word_timestamps=True)
        heard = whole.transcript()
        assert (heard.text, heard.language, heard.usage.audio_s) == ("one two", "de", 2.0)
        assert [word.text for one in heard.segments for word in one.words] == ["one", " two"]
        picture = Media(type="image/png", data=b"a red circle")
        seen = client.caption(MODEL, picture, prompt="It is").collected()
        assert (seen.text, seen.usage.images) == ("a red circle", 1)
        assert client.caption(MODEL, b"a cat").collected().text == "a cat"
        assert client.health().status == "ready"
        assert client.models()[0].name == MODEL
        assert client.stats().requests_accepted == 6
        assert client.connected
        (failure,) = client.generate("nope", "x")
        assert isinstance(failure, Failed)
        assert failure.code == "unknown_model"


def test_the_callers_trace_travels_with_a_request() -> None:
    service = FakeService()
    with daemon_thread(service) as endpoint, Client(endpoint) as client:
        turn = Message(role=Role.USER, content="hi")
        list(client.generate(MODEL, "hi", traceparent=TRACE))
        list(client.chat(MODEL, [turn], traceparent=TRACE))
        list(client.generate(MODEL, "hi"))
    assert [request.traceparent for request in service.requests] == [TRACE, TRACE, None]


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
