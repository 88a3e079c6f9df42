"""Requests whose model is not in memory: they wait, are told how it goes, and always end once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from nsedge.api import Event, Failed, Finished, FinishReason, Generate, Loading, Request
from nsedge.core.intake import Intake
from nsedge.core.journal import Journal
from nsedge.errors import BundleInvalid
from tests.ipc import until
from tests.unit.shelf import Shelf


@dataclasses.dataclass
class Door:
    """An intake, its shelf, and what came of each request."""

    intake: Intake
    shelf: Shelf
    events: dict[str, list[Event]] = dataclasses.field(default_factory=dict)

    def ask(self, label: str, model: str, **wish: Any) -> Any:
        self.events[label] = []
        request = Request(request_id=label, model=model, task=Generate(text="hi"), **wish)
        return self.intake.submit(request, self.events[label].append)

    def last(self, label: str) -> Event | None:
        return self.events[label][-1] if self.events[label] else None


@contextlib.asynccontextmanager
async def door(shelf: Shelf, **options: Any) -> AsyncIterator[Door]:
    bounds = {"on_demand": True, "max_waiting": 8, "max_untaken": 64} | options
    async with shelf:
        intake = Intake(
            residency=shelf.residency,  # type: ignore[arg-type]  # its models are never run here
            journal=Journal(),
            check_open=lambda: None,
            clock=shelf.clock,
            **bounds,
        )
        yield Door(intake, shelf)
        for gate in shelf.gates.values():
            gate.set()
        await intake.stop()


def play(scenario: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @functools.wraps(scenario)
    def test(tmp_path: Path) -> None:
        asyncio.run(scenario(tmp_path))

    return test


@play
async def test_it_is_told_where_it_stands(tmp_path: Path) -> None:
    async with door(Shelf(tmp_path, {"a": 1, "b": 1})) as one:
        one.shelf.held_back("a")
        one.ask("x", "a")
        await until(lambda: one.shelf.opened == ["a"])
        ticket = one.ask("y", "b")
        await until(lambda: bool(one.events["y"]))
        told = one.events["y"][0]
        assert isinstance(told, Loading)
        assert (told.model, told.position, told.progress) == ("b", 1, 0.0)
        assert any(isinstance(e, Loading) and e.progress == 0.5 for e in one.events["x"])
        ticket.cancel()
        await until(lambda: isinstance(one.last("y"), Finished))


@play
async def test_cancelled_while_it_waits_it_ends_at_once_and_nothing_is_loaded(
    tmp_path: Path,
) -> None:
    async with door(Shelf(tmp_path, {"a": 1, "b": 1})) as one:
        gate = one.shelf.held_back("a")
        first = one.ask("x", "a")
        await until(lambda: one.shelf.opened == ["a"])
        second = one.ask("y", "b")
        await until(lambda: bool(one.events["y"]))
        second.cancel()
        await until(lambda: isinstance(one.last("y"), Finished))
        end = one.last("y")
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.CANCELLED
        assert one.shelf.entry("b").load is None
        first.cancel()
        gate.set()
        await until(lambda: isinstance(one.last("x"), Finished))
        assert one.shelf.opened == ["a"]


@play
async def test_a_deadline_counts_while_the_model_loads(tmp_path: Path) -> None:
    async with door(Shelf(tmp_path, {"a": 1})) as one:
        one.shelf.held_back("a")
        one.ask("x", "a", deadline_s=0.02)
        await until(lambda: isinstance(one.last("x"), Failed))
        end = one.last("x")
        assert isinstance(end, Failed)
        assert (end.code, end.param) == ("deadline_exceeded", "deadline_s")


@play
async def test_a_failed_load_fails_all_that_wait(tmp_path: Path) -> None:
    async with door(Shelf(tmp_path, {"a": 1})) as one:
        one.shelf.errors["a"] = BundleInvalid("torn")
        for label in "xyz":
            one.ask(label, "a")
        await until(lambda: all(isinstance(one.last(label), Failed) for label in "xyz"))
        for label in "xyz":
            end = one.last(label)
            assert isinstance(end, Failed)
            assert (end.code, end.message) == ("bundle_invalid", "torn")


@play
async def test_requests_may_be_kept_from_loading(tmp_path: Path) -> None:
    async with door(Shelf(tmp_path, {"a": 1}), on_demand=False) as one:
        one.ask("x", "a")
        await until(lambda: bool(one.events["x"]))
        end = one.last("x")
        assert isinstance(end, Failed)
        assert (end.code, end.retryable, end.param) == ("not_loaded", True, "model")
        assert one.shelf.opened == []
        gate = one.shelf.held_back("a")
        loading = asyncio.create_task(one.shelf.load("a"))
        await until(lambda: one.shelf.opened == ["a"])
        ticket = one.ask("y", "a")
        await until(lambda: bool(one.events["y"]))
        assert isinstance(one.last("y"), Loading), "what is on its way is waited for"
        ticket.cancel()
        gate.set()
        await loading


@play
async def test_so_many_may_wait_for_a_model(tmp_path: Path) -> None:
    async with door(Shelf(tmp_path, {"a": 1}), max_waiting=2) as one:
        one.shelf.held_back("a")
        for label in "xyz":
            one.ask(label, "a")
        await until(lambda: isinstance(one.last("z"), Failed))
        end = one.last("z")
        assert isinstance(end, Failed)
        assert end.code == "queue_full"
        assert isinstance(one.last("x"), Loading)
        await one.intake.drain(0.0)
        ends = [one.last(label) for label in "xy"]
        assert [isinstance(end, Failed) and end.code for end in ends] == ["draining"] * 2


@play
async def test_cancelled_before_it_came_to_wait_it_ends_and_nothing_is_loaded(
    tmp_path: Path,
) -> None:
    async with door(Shelf(tmp_path, {"a": 1, "b": 1})) as one:
        one.shelf.held_back("a")
        one.ask("x", "a")
        await until(lambda: one.shelf.opened == ["a"])
        ticket = one.ask("y", "b")
        asyncio.get_running_loop().call_soon(ticket.cancel)  # right behind its admission
        await until(lambda: isinstance(one.last("y"), Finished))
        await until(lambda: one.shelf.entry("b").load is None)
