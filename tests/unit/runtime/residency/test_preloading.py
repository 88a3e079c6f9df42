"""Models that are loaded before anybody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nsedge.api import ModelState
from nsedge.runtime.residency.entries import Origin
from nsedge.runtime.residency.settings import ResidencySettings
from tests.ipc import until
from tests.unit.runtime.residency.test_residency import play
from tests.unit.shelf import Shelf

GUESSING = ResidencySettings(preload_top=1, preload_share=1.0, preload_idle_s=2.0)


async def turn(times: int = 10) -> None:
    """Let several sweeps pass."""
    for _ in range(times):
        await asyncio.sleep(0.002)


@play
async def test_the_likeliest_comes_while_nothing_happens(tmp_path: Path) -> None:
    usage = tmp_path / "usage.json"
    async with Shelf(tmp_path / "b", {"a": 1, "b": 1}, usage_file=usage) as shelf:
        for name in ("a", "b", "b"):
            shelf.residency.habits.began(name)
    settings = GUESSING
    async with Shelf(
        tmp_path / "c", {"a": 1, "b": 1}, settings=settings, usage_file=usage
    ) as shelf:
        await until(lambda: shelf.entry("a").state is ModelState.READY)
        await turn()
        assert shelf.opened == ["a"], "b was used last: a is the likeliest other"
        residents = shelf.residency.residents
        assert residents.stats().guesses == 1
        ready = shelf.entry("a").ready
        assert ready is not None
        residents.give_back(ready, shelf.use(ready))
        assert residents.stats().guesses_used == 1


@play
async def test_nothing_is_guessed_while_something_runs(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}, settings=GUESSING) as shelf:
        user = shelf.use(resident := await shelf.load("b"))
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.state("a") is ModelState.ABSENT
        shelf.residency.residents.give_back(resident, user)
        await turn()
        assert shelf.state("a") is ModelState.ABSENT, "not at once, either"
        shelf.clock.advance(GUESSING.preload_idle_s)
        await until(lambda: shelf.state("a") is ModelState.READY)


@play
async def test_nobody_leaves_for_a_guess(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60, "b": 60}, settings=GUESSING, budget=100) as shelf:
        await shelf.load("b")
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.state("b") is ModelState.READY
        assert shelf.opened == ["b"]


@play
async def test_a_guess_gives_way_first_and_counts_as_wasted(tmp_path: Path) -> None:
    sizes = {"a": 40, "b": 40, "c": 40}
    async with Shelf(tmp_path, sizes, settings=GUESSING, budget=100) as shelf:
        await shelf.load("b")
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await until(lambda: shelf.state("a") is ModelState.READY)
        await shelf.load("c")
        assert shelf.state("a") is ModelState.ABSENT
        assert shelf.state("b") is ModelState.READY
        assert shelf.residency.residents.stats().guesses_wasted == 1


@play
async def test_what_left_for_being_idle_is_not_loaded_again_at_once(tmp_path: Path) -> None:
    settings = ResidencySettings(preload_top=1, keep_alive_s=10.0)
    async with Shelf(tmp_path, {"a": 1, "b": 1}, settings=settings) as shelf:
        resident = await shelf.load("a")
        shelf.residency.habits.began("a")
        shelf.residency.residents.give_back(resident, shelf.use(resident))
        shelf.clock.advance(10.0)
        await until(lambda: shelf.state("a") is ModelState.ABSENT)
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.opened == ["a"]
        shelf.residency.habits.began("b")
        await until(lambda: shelf.opened == ["a", "a"])


@play
async def test_a_request_for_a_guess_on_its_way_makes_it_urgent(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}, settings=GUESSING) as shelf:
        gate = shelf.held_back("a")
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await until(lambda: shelf.opened == ["a"])
        asked = asyncio.create_task(shelf.load("a"))
        await asyncio.sleep(0)
        gate.set()
        resident = await asked
        assert shelf.opened == ["a"]
        assert not resident.guessed


async def quiet_until(shelf: Shelf, condition: Callable[[], bool]) -> None:
    """Let time pass in which nobody asks for anything."""

    def looked() -> bool:
        shelf.clock.advance(GUESSING.preload_idle_s)
        return condition()

    await until(looked)


async def unload_all(shelf: Shelf) -> None:
    for entry in shelf.residency.catalogue:
        await shelf.residency.unload(entry)


@play
async def test_what_somebody_unloaded_comes_back_for_no_guess(tmp_path: Path) -> None:
    settings = replace(GUESSING, preload_top=3)
    sizes = dict.fromkeys("abc", 1)
    async with Shelf(tmp_path, sizes, settings=settings, predictor="score") as shelf:
        await shelf.load("a")
        for name in "abc":
            shelf.residency.habits.began(name)
        await shelf.residency.unload(shelf.entry("a"))
        for _ in range(3):
            shelf.clock.advance(3600.0)
            await turn()
        assert shelf.opened == ["a"], "the memory is wanted: nothing else comes for a guess, either"
        shelf.residency.habits.began("c")
        await quiet_until(shelf, lambda: set(shelf.opened[1:]) == {"b", "c"})
        for _ in range(3):
            shelf.clock.advance(60.0)
            await turn()
        assert "a" not in shelf.opened[1:], "a request for another brings others only"
        asked = await shelf.load("a", origin=Origin.REQUEST)
        await shelf.residency.residents.retire(asked)
        shelf.residency.habits.began("b")
        await quiet_until(shelf, lambda: shelf.opened.count("a") == 3)  # asked for: may be guessed


@play
async def test_unloading_all_suspends_guessing_until_the_next_request(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}, settings=GUESSING) as shelf:
        await shelf.load("b")
        shelf.residency.habits.began("b")
        shelf.residency.habits.began("a")
        await unload_all(shelf)
        for _ in range(3):
            shelf.clock.advance(3600.0)
            await turn()
        assert shelf.opened == ["b"]
        await shelf.load("a", origin=Origin.REQUEST)
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.opened == ["b", "a"], "b was unloaded, and nobody has asked for it since"


@play
async def test_a_guess_on_its_way_is_unloaded_too(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}, settings=GUESSING) as shelf:
        gate = shelf.held_back("a")
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await until(lambda: shelf.opened == ["a"])
        unloading = asyncio.create_task(unload_all(shelf))
        await asyncio.sleep(0)
        gate.set()
        await unloading
        shelf.clock.advance(60.0)
        await turn()
        assert (shelf.state("a"), shelf.opened) == (ModelState.ABSENT, ["a"])


@play
async def test_those_that_an_exclusive_load_unloaded_come_back_for_no_guess(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}, settings=GUESSING) as shelf:
        await shelf.load("a")
        await shelf.load("b", exclusive=True)
        shelf.residency.habits.began("a")
        shelf.residency.habits.began("b")
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.opened == ["a", "b"]


@play
async def test_no_adapter_brings_an_unloaded_base_back(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}, settings=GUESSING) as shelf:
        shelf.add_adapter("a", "x", 1)
        shelf.residency.catalogue.look()
        await shelf.load("a")
        await shelf.residency.unload(shelf.entry("a"))
        for name in ("a:x", "b"):
            shelf.residency.habits.began(name)
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.opened == ["a"]


@play
async def test_guesses_keep_to_their_share_of_the_budget(tmp_path: Path) -> None:
    settings = ResidencySettings(preload_top=4, preload_share=0.5)
    sizes = {"a": 30, "b": 30, "c": 45, "used": 40}
    shelf = Shelf(tmp_path, sizes, settings=settings, budget=200, predictor="score")
    async with shelf:
        await shelf.load("used")
        for name in ("c", "b", "b", "b", "a", "a", "a", "used"):
            shelf.residency.habits.began(name)
        await quiet_until(shelf, lambda: {"a", "b"} <= set(shelf.opened))
        shelf.clock.advance(60.0)
        await turn()
        assert shelf.state("c") is ModelState.ABSENT, "105 of 100"
        ready = shelf.entry("a").ready
        assert ready is not None
        shelf.residency.residents.give_back(ready, shelf.use(ready))
        await quiet_until(shelf, lambda: shelf.state("c") is ModelState.READY)


@play
async def test_a_guess_that_took_more_than_its_share_leaves(tmp_path: Path) -> None:
    settings = replace(GUESSING, preload_share=0.25)
    async with Shelf(tmp_path, {"a": 60}, settings=settings, budget=200) as shelf:
        shelf.expected["a"] = 40
        shelf.residency.habits.began("a")
        shelf.clock.advance(60.0)
        await until(lambda: shelf.residency.residents.stats().guesses_wasted == 1)
        await until(lambda: shelf.state("a") is ModelState.ABSENT)
        await turn()
        assert shelf.opened == ["a"]


@play
async def test_guesses_leave_first_where_the_machine_gets_short_of_memory(tmp_path: Path) -> None:
    settings = replace(GUESSING, preload_top=3)
    sizes = {"a": 30, "b": 30, "asked": 30}
    async with Shelf(tmp_path, sizes, settings=settings, spare=70, predictor="score") as shelf:
        await shelf.load("asked")
        for name in ("a", "b", "asked"):
            shelf.residency.habits.began(name)
        await quiet_until(shelf, lambda: shelf.state("a") is shelf.state("b") is ModelState.READY)
        shelf.spare = -1
        await until(lambda: shelf.state("a") is shelf.state("b") is ModelState.ABSENT)
        assert shelf.state("asked") is ModelState.READY
        shelf.residency.habits.began("asked")
        shelf.spare = 29
        shelf.clock.advance(60.0)
        await turn()
        assert len(shelf.opened) == 3, "nothing comes that would make it short again"
        shelf.spare = 30
        await until(lambda: len(shelf.opened) == 4)


@play
async def test_a_guess_of_an_adapter_makes_its_base_one_too(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}, settings=GUESSING) as shelf:
        shelf.add_adapter("a", "x", 1)
        shelf.residency.catalogue.look()
        shelf.residency.habits.began("a:x")
        shelf.clock.advance(60.0)
        await until(lambda: shelf.entry("a:x").ready is not None)
        guessed = {one.entry.name: one.guessed for one in shelf.residency.residents}
        assert guessed == {"a": True, "a:x": True}
        adapter = shelf.entry("a:x").ready
        assert adapter is not None
        user = shelf.use(adapter)
        assert not any(one.guessed for one in shelf.residency.residents)
        assert shelf.residency.residents.stats().guesses_used == 2
        shelf.residency.residents.give_back(adapter, user)
