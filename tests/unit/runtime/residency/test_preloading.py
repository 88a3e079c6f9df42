"""Models that are loaded before anybody asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nsedge.api import ModelState
from nsedge.runtime.residency.settings import ResidencySettings
from tests.ipc import until
from tests.unit.runtime.residency.test_residency import play
from tests.unit.shelf import Shelf

GUESSING = ResidencySettings(preload_top=1, preload_idle_s=2.0)


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
