"""The server at the wire, with a hand-made client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgpack
import pytest

from nsedge import api
from nsedge.errors import NsedgeError
from nsedge.ipc import protocol
from nsedge.ipc.limits import Limits
from nsedge.version import VERSION
from tests.fakes import MODEL, FakeClock, FakeService, FakeTicket
from tests.ipc import PATIENCE_S, QUICK, RawClient, serving, until

LONG = "word " * 400


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_hello_generate_bye() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            welcome = await client.hello()
            assert welcome["protocol"] == protocol.VERSION
            assert welcome["server"] == VERSION
            assert len(welcome["session"]) == 16
            assert welcome["liveness_s"] == QUICK.liveness_s
            await client.generate("a", "one two")
            heard = await client.hear_until_end("a")
            assert [payload["type"] for payload in heard] == [
                "started",
                "delta",
                "delta",
                "finished",
            ]
            assert heard[-1]["usage"] == {
                "prompt_tokens": 2,
                "completion_tokens": 2,
                "cached_tokens": 0,
            }
            service.gate = asyncio.Event()
            await client.generate("b", "three")
            assert (await client.hear())["type"] == "started"
            await client.say({"type": "bye"})
            await until(lambda: service.cancelled == 1)

    run(scenario())


def test_several_payloads_in_a_message_are_all_served() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            ask = {"type": "generate", "model": MODEL, "text": "hi"}
            await client.say(
                {"type": "hello", "protocol": "1.0"}, {**ask, "id": "a"}, {**ask, "id": "b"}
            )
            assert (await client.hear())["type"] == "welcome"
            ends = set()
            while len(ends) < 2:
                payload = await client.hear()
                if payload["type"] == "finished":
                    ends.add(payload["id"])
            assert ends == {"a", "b"}

    run(scenario())


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "generate", "id": "a", "model": MODEL, "text": "x"},
        {"type": "models", "id": "a"},
        {"type": "credit", "id": "a", "bytes": 1},
        {"type": "bye"},
    ],
    ids=lambda payload: payload["type"],
)
def test_nothing_goes_before_hello(payload: dict[str, Any]) -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.say(payload)
            failure = await client.hear()
            assert (failure["type"], failure["code"]) == ("failed", "out_of_order")
            assert failure.get("id") == payload.get("id")
            assert service.accepted == 0

    run(scenario())


def test_a_second_hello_begins_anew() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            first = await client.hello()
            await client.generate("a", "x")
            await client.hear()
            second = await client.hello()
            assert second["session"] != first["session"]
            await until(lambda: service.cancelled == 1)
            await client.say_control({"type": "ping", "session": first["session"]})
            assert (await client.hear_control())["code"] == "out_of_order"
            await client.say_control({"type": "ping", "session": second["session"]})
            assert await client.hear_control() == {"type": "pong"}

    run(scenario())


def test_a_live_id_is_refused_without_touching_its_request() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", "x")
            await client.hear()
            await client.generate("a", "y")
            failure = await client.hear()
            assert (failure["code"], failure["param"]) == ("out_of_order", "id")
            assert "id" not in failure
            assert service.gate is not None
            service.gate.set()
            assert [payload["type"] for payload in await client.hear_until_end("a")] == [
                "delta",
                "finished",
            ]
            await client.generate("a", "the id is free again")
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    run(scenario())


def test_cancel_works_on_both_sockets() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            for label, say in (("a", client.say_control), ("b", client.say)):
                await client.generate(label, "x")
                await client.hear()
                await say({"type": "cancel", "session": client.session, "id": label})
                (end,) = await client.hear_until_end(label)
                assert end["reason"] == "cancelled"
            await client.say({"type": "cancel", "session": client.session, "id": "unknown"})
            await client.say({"type": "models", "id": "q"})
            assert (await client.hear())["type"] == "reply"

    run(scenario())


def test_queries() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.say_control({"type": "health", "id": "q"})
            reply = await client.hear_control()
            assert (reply["id"], reply["health"]["status"]) == ("q", "ready")
            await client.hello()
            for kind in ("models", "stats", "health"):
                await client.say({"type": kind, "id": kind})
                reply = await client.hear()
                assert set(reply) == {"type", "id", kind}

    run(scenario())


class Broken(FakeService):
    """A service with bugs, and one that knows its faults."""

    def submit(self, request: api.Request, sink: api.Sink) -> FakeTicket:
        raise RuntimeError("a bug")

    async def models(self) -> tuple[api.ModelInfo, ...]:
        raise RuntimeError("a bug")

    async def stats(self) -> api.Stats:
        raise NsedgeError("no stats today")


def test_a_bug_in_the_service_reaches_the_client_without_its_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with serving(Broken()) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", "x")
            (failure,) = await client.hear_until_end("a")
            assert failure["code"] == "internal"
            assert "bug" not in failure["message"]
            await client.say({"type": "models", "id": "m"})
            assert (await client.hear())["error"]["code"] == "internal"
            await client.say({"type": "stats", "id": "s"})
            assert (await client.hear())["error"]["message"] == "no stats today"

    run(scenario())
    assert caplog.text.count("RuntimeError: a bug") == 2


class Slow(FakeService):
    """Answers no query before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def health(self) -> api.Health:
        await self.let.wait()
        return await super().health()


def test_unanswered_queries_are_bounded() -> None:
    async def scenario() -> None:
        service, limits = Slow(), Limits(max_queries=2)
        async with serving(service, limits=limits) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            for say, hear in ((client.say, client.hear), (client.say_control, client.hear_control)):
                service.let.clear()
                for label in ("a", "b", "c"):
                    await say({"type": "health", "id": label})
                failure = await hear()
                assert (failure["id"], failure["code"]) == ("c", "unavailable")
                service.let.set()
                assert {(await hear())["id"], (await hear())["id"]} == {"a", "b"}

    run(scenario())


def test_credit_holds_text_back_and_joins_it() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", "one two three four", credit=1)
            assert (await client.hear())["type"] == "started"
            assert (await client.hear())["text"] == "one"
            await until(lambda: not service.live)
            await client.say({"type": "credit", "id": "a", "bytes": 1000})
            joined, end = await client.hear_until_end("a")
            assert (joined["seq"], joined["text"]) == (1, " two three four")
            assert joined["token_ids"] == [1, 2, 3]
            assert end["type"] == "finished"

    run(scenario())


def test_the_services_own_bound_reaches_a_reader_without_credit() -> None:
    async def scenario() -> None:
        service = FakeService(max_untaken=8)
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", LONG, credit=0)
            heard = await client.hear_until_end("a")
            assert [payload["type"] for payload in heard] == ["started", "failed"]
            assert heard[-1]["code"] == "slow_consumer"
            await client.generate("b", LONG, credit=200_000)
            assert (await client.hear_until_end("b"))[-1]["type"] == "finished"

    run(scenario())


def test_a_stalled_reader_is_cut_off_in_time() -> None:
    async def scenario() -> None:
        service, clock = FakeService(repeat=10**6), FakeClock()
        service.max_untaken = 10**9
        async with serving(service, clock=clock) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", "word", credit=0)
            assert (await client.hear())["type"] == "started"
            stop = asyncio.create_task(client.hear_until_end("a"))
            while not stop.done():
                clock.advance(QUICK.liveness_s / 4)
                await client.say_control({"type": "ping", "session": client.session})
                await client.hear_control()
                await asyncio.sleep(QUICK.sweep_s)
            assert [payload["code"] for payload in await stop] == ["slow_consumer"]
            await until(lambda: not service.live)

    run(scenario())


def test_silence_ends_a_session_and_any_message_keeps_it() -> None:
    async def scenario() -> None:
        service, clock = FakeService(gate=asyncio.Event()), FakeClock()
        async with (
            serving(service, clock=clock) as endpoint,
            RawClient(endpoint) as quiet,
            RawClient(endpoint) as lively,
        ):
            for client in (quiet, lively):
                await client.hello()
                await client.generate("a", "x")
                await client.hear()
            assert len(service.live) == 2
            for _ in range(2):
                clock.advance(QUICK.liveness_s * 0.6)
                await lively.say_control({"type": "ping", "session": lively.session})
                assert (await lively.hear_control())["type"] == "pong"
            await until(lambda: service.cancelled == 1)
            await lively.say_control({"type": "ping", "session": lively.session})
            assert (await lively.hear_control())["type"] == "pong"
            await quiet.say_control({"type": "ping", "session": quiet.session})
            assert (await quiet.hear_control())["code"] == "out_of_order"
            assert len(service.live) == 1

    run(scenario())


def test_a_closed_connection_ends_its_session_though_nothing_is_sent() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        limits = Limits(heartbeat_s=1000.0, liveness_s=5000.0)
        async with serving(service, limits=limits) as endpoint, RawClient(endpoint) as stays:
            gone = RawClient(endpoint)
            for client in (gone, stays):
                await client.hello()
                await client.generate("a", "x")
                await client.hear()
            gone.close()
            await until(lambda: service.cancelled == 1)
            assert len(service.live) == 1
            assert service.gate is not None
            service.gate.set()
            assert (await stays.hear_until_end("a"))[-1]["type"] == "finished"

    run(scenario())


def test_sessions_are_bounded() -> None:
    async def scenario() -> None:
        limits = Limits(max_sessions=1)
        async with (
            serving(FakeService(), limits=limits) as endpoint,
            RawClient(endpoint) as first,
            RawClient(endpoint) as second,
        ):
            await first.hello()
            failure = await second.hello()
            assert (failure["code"], failure["retryable"]) == ("unavailable", True)
            await first.say({"type": "bye"})
            async with asyncio.timeout(PATIENCE_S):
                while (await second.hello())["type"] != "welcome":
                    continue

    run(scenario())


def test_an_undecodable_payload_does_not_spoil_its_neighbours() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            good = msgpack.packb({"type": "models", "id": "q"})
            await client.data.send_multipart([protocol.MAGIC, b"\xc1", good])
            assert (await client.hear())["code"] == "bad_message"
            assert (await client.hear())["type"] == "reply"

    run(scenario())


def test_a_message_that_does_not_fit_does_not_end_a_live_request_of_its_id() -> None:
    async def scenario() -> None:
        service = FakeService()
        service.gate = asyncio.Event()
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello()
            await client.generate("a", "one")
            assert (await client.hear())["type"] == "started"
            await client.say({"type": "credit", "id": "a", "bytes": -1})
            failure = await client.hear()
            assert (failure["type"], failure["param"]) == ("failed", "bytes")
            assert "id" not in failure
            service.gate.set()
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    run(scenario())
