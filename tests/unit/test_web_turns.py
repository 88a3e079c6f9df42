"""Fair share between keys: turns at the core, held by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nsedge.api import Event, Failed, Finished, FinishReason, Priority, Request, TextPrompt, Ticket
from nsedge.errors import UnknownModel
from nsedge.web.turns import Turns
from tests.fakes import MODEL, FakeClock
from tests.web_server import PuppetService, until


class Crowd:
    """Callers before a service that does what the test says."""

    def __init__(self, *, at_core: int = 2, max_waiting: int = 100) -> None:
        self.core, self.clock = PuppetService(), FakeClock()
        self.turns = Turns(
            self.core, max_at_core=at_core, max_waiting=max_waiting, clock=self.clock
        )
        self.events: dict[str, list[Event]] = {}

    def send(self, caller: str, label: str, model: str = MODEL, **fields: object) -> Ticket:
        request = Request(
            request_id=label,
            model=model,
            prompt=TextPrompt(text="x"),
            **fields,  # type: ignore[arg-type]
        )
        events = self.events[label] = []
        return self.turns.submit(request, events.append, caller=caller)

    @property
    def order(self) -> list[str]:
        """Labels as the core got them."""
        return [ticket.request.request_id for ticket in self.core.tickets]

    def end(self, label: str) -> None:
        self.core.tickets[self.order.index(label)].finish()


def played(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_a_late_key_does_not_wait_for_all_of_an_early_one() -> None:
    async def test() -> None:
        crowd = Crowd()
        for number in range(6):
            crowd.send("greedy", f"g{number}")
        crowd.send("modest", "m0")
        assert crowd.order == ["g0", "g1"]
        crowd.end("g0")
        assert crowd.order[2:] == ["m0"]
        crowd.end("g1")
        assert crowd.order[3:] == ["g2"]

    played(test)


def test_two_busy_keys_have_half_each() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=4)
        for number in range(20):
            crowd.send("a", f"a{number}")
        for number in range(20):
            crowd.send("b", f"b{number}")
        for _ in range(16):
            crowd.end(next(label for label in crowd.order if not crowd.events[label]))
            running = [label for label in crowd.order if not crowd.events[label]]
            assert len(running) == 4
        assert sorted(label[0] for label in running) == ["a", "a", "b", "b"]

    played(test)


def test_among_equals_who_was_given_less_goes_next() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        for label in ("a0", "b0", "a1", "b1", "a2"):
            crowd.send(label[0], label)
        crowd.core.tickets[0].start()
        for _ in range(5):
            crowd.core.tickets[0].say("word ")
        crowd.end("a0")
        crowd.end("b0")
        assert crowd.order == ["a0", "b0", "b1"]

    played(test)


def test_within_a_key_the_class_goes_first() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        crowd.send("a", "first")
        crowd.send("a", "slow", priority=Priority.BATCH)
        crowd.send("a", "plain")
        crowd.send("a", "quick", priority=Priority.INTERACTIVE)
        crowd.send("a", "plain too")
        for label in ("first", "quick", "plain", "plain too"):
            crowd.end(label)
        assert crowd.order == ["first", "quick", "plain", "plain too", "slow"]

    played(test)


def test_models_do_not_wait_for_each_other() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        crowd.send("a", "one")
        crowd.send("a", "two", model="other")
        assert crowd.order == ["one", "two"]

    played(test)


def test_one_that_waits_can_be_cancelled_and_ends_once() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        crowd.send("a", "one")
        waiting = crowd.send("a", "two")
        waiting.cancel()
        waiting.cancel()
        await until(lambda: bool(crowd.events["two"]))
        (end,) = crowd.events["two"]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.CANCELLED
        crowd.end("one")
        assert crowd.order == ["one"]

    played(test)


def test_one_at_the_core_is_cancelled_there() -> None:
    async def test() -> None:
        crowd = Crowd()
        ticket = crowd.send("a", "one")
        ticket.cancel()
        assert crowd.core.tickets[0].cancelled
        crowd.core.tickets[0].start()
        ticket.took(crowd.events["one"][0])
        assert crowd.core.tickets[0].taken == crowd.events["one"]

    played(test)


def test_the_wait_is_told_and_taken_off_the_deadline() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        crowd.send("a", "one")
        crowd.send("a", "two", deadline_s=100.0)
        crowd.clock.advance(30.0)
        crowd.end("one")
        second = crowd.core.tickets[1]
        assert second.request.deadline_s == 70.0
        second.start()
        second.finish()
        started, finished = crowd.events["two"]
        assert started.queue_s == finished.timings.queue_s == 30.0  # type: ignore[union-attr]

    played(test)


def test_a_deadline_passes_while_it_waits() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        crowd.send("a", "one")
        crowd.send("a", "two", deadline_s=0.001)
        await until(lambda: bool(crowd.events["two"]))
        (end,) = crowd.events["two"]
        assert isinstance(end, Failed)
        assert end.code == "deadline_exceeded"
        crowd.end("one")
        assert crowd.order == ["one"]

    played(test)


def test_too_many_that_wait_are_refused_and_others_are_not() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1, max_waiting=1)
        for label in ("a0", "a1", "a2", "b0"):
            crowd.send(label[0], label)
        await until(lambda: bool(crowd.events["a2"]))
        (end,) = crowd.events["a2"]
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("queue_full", True)
        assert crowd.events["a1"] == crowd.events["b0"] == []

    played(test)


def test_a_failure_gives_the_turn_on_and_nothing_is_kept_of_who_left() -> None:
    async def test() -> None:
        crowd = Crowd(at_core=1)
        for number in range(50):
            crowd.send(f"caller {number}", str(number), model=f"model {number % 5}")
        for number in range(50):
            label = crowd.order.index(str(number))
            crowd.core.tickets[label].refuse(UnknownModel("none"))
        assert len(crowd.order) == 50
        crowd.send("last", "last")
        assert list(crowd.turns._lanes) == [MODEL]

    played(test)
