"""Fair share between keys: turns at the core, held by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Priority,
    Request,
    Sampling,
    Ticket,
)
from nsedge.errors import UnknownModel
from nsedge.web.fair_share import FairShare
from tests.fakes import MODEL, FakeClock
from tests.web_server import PuppetService, until


class Callers:
    """Callers before a service that does what the test says."""

    def __init__(self, *, at_core: int = 2, max_waiting: int = 100) -> None:
        self.core, self.clock = PuppetService(), FakeClock()
        self.fair_share = FairShare(
            self.core, max_at_core=at_core, max_waiting=max_waiting, clock=self.clock
        )
        self.events: dict[str, list[Event]] = {}

    def send(
        self, caller: str, label: str, model: str = MODEL, *, n: int = 1, **fields: object
    ) -> Ticket:
        request = Request(
            request_id=label,
            model=model,
            task=Generate(text="x", sampling=Sampling(n=n)),
            **fields,  # type: ignore[arg-type]
        )
        events = self.events[label] = []
        return self.fair_share.submit(request, events.append, caller=caller)

    @property
    def order(self) -> list[str]:
        """Labels as the core got them."""
        return [ticket.request.request_id for ticket in self.core.tickets]

    def end(self, label: str) -> None:
        self.core.tickets[self.order.index(label)].finish()


def played(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_late_key_does_not_wait_for_all_of_an_early_one() -> None:
    async def test() -> None:
        callers = Callers()
        for number in range(6):
            callers.send("greedy", f"g{number}")
        callers.send("modest", "m0")
        assert callers.order == ["g0", "g1"]
        callers.end("g0")
        assert callers.order[2:] == ["m0"]
        callers.end("g1")
        assert callers.order[3:] == ["g2"]

    played(test)


def test_two_busy_keys_have_half_each() -> None:
    async def test() -> None:
        callers = Callers(at_core=4)
        for number in range(20):
            callers.send("a", f"a{number}")
        for number in range(20):
            callers.send("b", f"b{number}")
        for _ in range(16):
            callers.end(next(label for label in callers.order if not callers.events[label]))
            running = [label for label in callers.order if not callers.events[label]]
            assert len(running) == 4
        assert sorted(label[0] for label in running) == ["a", "a", "b", "b"]

    played(test)


def test_a_request_of_several_choices_counts_as_many() -> None:
    async def test() -> None:
        callers = Callers(at_core=4)
        callers.send("a", "a0", n=3)
        callers.send("a", "a1")
        callers.send("a", "a2", n=9)
        callers.send("b", "b0", n=2)
        callers.send("b", "b1")
        assert callers.order == ["a0", "a1"]
        callers.core.tickets[0].start()
        callers.end("a1")
        assert callers.order == ["a0", "a1"], "b0 is next, and nobody takes its room"
        callers.end("a0")
        assert callers.order[2:] == ["b0"]
        callers.end("b0")
        assert callers.order[3:] == ["b1"]
        callers.end("b1")
        assert callers.order[4:] == ["a2"], "more than there is room for goes alone"

    played(test)


def test_among_equals_who_was_given_less_goes_next() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        for label in ("a0", "b0", "a1", "b1", "a2"):
            callers.send(label[0], label)
        callers.core.tickets[0].start()
        for _ in range(5):
            callers.core.tickets[0].say("word ")
        callers.end("a0")
        callers.end("b0")
        assert callers.order == ["a0", "b0", "b1"]

    played(test)


def test_within_a_key_the_class_goes_first() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        callers.send("a", "first")
        callers.send("a", "slow", priority=Priority.BATCH)
        callers.send("a", "plain")
        callers.send("a", "quick", priority=Priority.INTERACTIVE)
        callers.send("a", "plain too")
        for label in ("first", "quick", "plain", "plain too"):
            callers.end(label)
        assert callers.order == ["first", "quick", "plain", "plain too", "slow"]

    played(test)


def test_models_do_not_wait_for_each_other() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        callers.send("a", "one")
        callers.send("a", "two", model="other")
        assert callers.order == ["one", "two"]

    played(test)


def test_one_that_waits_can_be_cancelled_and_ends_once() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        callers.send("a", "one")
        waiting = callers.send("a", "two")
        waiting.cancel()
        waiting.cancel()
        await until(lambda: bool(callers.events["two"]))
        (end,) = callers.events["two"]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.CANCELLED
        callers.end("one")
        assert callers.order == ["one"]

    played(test)


def test_one_at_the_core_is_cancelled_there() -> None:
    async def test() -> None:
        callers = Callers()
        ticket = callers.send("a", "one")
        ticket.cancel()
        assert callers.core.tickets[0].cancelled
        callers.core.tickets[0].start()
        ticket.took(callers.events["one"][0])
        assert callers.core.tickets[0].taken == callers.events["one"]

    played(test)


def test_the_wait_is_told_and_taken_off_the_deadline() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        callers.send("a", "one")
        callers.send("a", "two", deadline_s=100.0)
        callers.clock.advance(30.0)
        callers.end("one")
        second = callers.core.tickets[1]
        assert second.request.deadline_s == 70.0
        second.start()
        second.finish()
        started, finished = callers.events["two"]
        assert started.queue_s == finished.timings.queue_s == 30.0  # type: ignore[union-attr]

    played(test)


def test_a_deadline_passes_while_it_waits() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        callers.send("a", "one")
        callers.send("a", "two", deadline_s=0.001)
        await until(lambda: bool(callers.events["two"]))
        (end,) = callers.events["two"]
        assert isinstance(end, Failed)
        assert end.code == "deadline_exceeded"
        callers.end("one")
        assert callers.order == ["one"]

    played(test)


def test_too_many_that_wait_are_refused_and_others_are_not() -> None:
    async def test() -> None:
        callers = Callers(at_core=1, max_waiting=1)
        for label in ("a0", "a1", "a2", "b0"):
            callers.send(label[0], label)
        await until(lambda: bool(callers.events["a2"]))
        (end,) = callers.events["a2"]
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("queue_full", True)
        assert callers.events["a1"] == callers.events["b0"] == []

    played(test)


def test_a_failure_gives_the_turn_on_and_nothing_is_kept_of_who_left() -> None:
    async def test() -> None:
        callers = Callers(at_core=1)
        for number in range(50):
            callers.send(f"caller {number}", str(number), model=f"model {number % 5}")
        for number in range(50):
            label = callers.order.index(str(number))
            callers.core.tickets[label].refuse(UnknownModel("none"))
        assert len(callers.order) == 50
        callers.send("last", "last")
        assert list(callers.fair_share._lanes) == [MODEL]

    played(test)
