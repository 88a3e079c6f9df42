"""Adapters come and go with their base: the keeper over models without weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nsedge.api import ModelState
from nsedge.errors import BundleInvalid, InsufficientMemory, Unavailable, UnknownModel
from nsedge.runtime.residency.entries import Origin
from nsedge.runtime.residency.settings import ResidencySettings
from tests.ipc import until
from tests.unit.runtime.residency.test_residency import play
from tests.unit.shelf import Shelf

READY, ABSENT = ModelState.READY, ModelState.ABSENT


def shelf_with(folder: Path, *, budget: int | None = None, **sizes: int) -> Shelf:
    """A base `a` with the adapter `a:x`, and what else is named."""
    shelf = Shelf(folder, {"a": 10, **sizes}, budget=budget)
    shelf.add_adapter("a", "x", 2)
    return shelf


@play
async def test_an_adapter_brings_its_base_along(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        resident = await shelf.load("a:x")
        assert shelf.opened == ["a", "a+x"]
        assert shelf.bases == {"a": None, "a+x": shelf.models[0]}
        assert (shelf.state("a"), shelf.state("a:x")) == (READY, READY)
        assert resident.base is shelf.entry("a").resident
        assert not shelf.entry("a").resident.users
        assert [info.base for info in shelf.residency.catalogue.infos()] == [None, "a"]


@play
async def test_one_that_is_there_is_not_loaded_again(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        shelf.add_adapter("a", "y", 2)
        shelf.residency.catalogue.look()
        await shelf.load("a")
        await asyncio.gather(shelf.load("a:x"), shelf.load("a:y"))
        assert sorted(shelf.opened) == ["a", "a+x", "a+y"]
        assert shelf.residency.residents.used().host == 14


@play
async def test_a_base_that_leaves_takes_its_adapters_with_it(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        resident = await shelf.load("a:x")
        user = shelf.use(resident)
        leaving = asyncio.create_task(shelf.residency.unload(shelf.entry("a")))
        await until(lambda: shelf.entry("a").ready is None)
        assert shelf.state("a:x") is ModelState.DRAINING
        assert not shelf.models[0].closed
        shelf.residency.residents.give_back(resident, user)
        await leaving
        assert [model.closed for model in shelf.models] == [True, True]
        assert (shelf.state("a"), shelf.state("a:x")) == (ABSENT, ABSENT)


@play
async def test_users_of_an_adapter_are_told_when_its_base_has_to_leave(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        user = shelf.use(await shelf.load("a:x"))
        await shelf.residency.unload(shelf.entry("a"), drain_s=0.0)
        assert isinstance(user.error, Unavailable)
        assert shelf.state("a:x") is ABSENT


@play
async def test_a_base_is_not_evicted_while_an_adapter_on_it_is_used(tmp_path: Path) -> None:
    async with shelf_with(tmp_path, budget=15, b=10) as shelf:
        resident = await shelf.load("a:x")
        user = shelf.use(resident)
        with pytest.raises(InsufficientMemory):
            await shelf.load("b", origin=Origin.START)
        coming = asyncio.create_task(shelf.load("b"))
        await asyncio.sleep(0.01)
        assert shelf.state("a") is READY
        shelf.residency.residents.give_back(resident, user)
        await coming
        assert [shelf.state(name) for name in ("a", "a:x", "b")] == [ABSENT, ABSENT, READY]


@play
async def test_an_idle_adapter_leaves_before_its_base(tmp_path: Path) -> None:
    shelf = shelf_with(tmp_path)
    shelf.settings = ResidencySettings(keep_alive_s=5.0)
    async with shelf:
        await shelf.load("a:x")
        shelf.clock.advance(6.0)
        await until(lambda: shelf.state("a:x") is ABSENT)
        assert shelf.state("a") is READY
        shelf.clock.advance(6.0)
        await until(lambda: shelf.state("a") is ABSENT)


@play
async def test_the_adapter_alone_can_be_evicted(tmp_path: Path) -> None:
    async with shelf_with(tmp_path, budget=15, b=4) as shelf:
        await shelf.load("a:x")
        base = shelf.use(shelf.entry("a").resident)
        await shelf.load("b")
        assert [shelf.state(name) for name in ("a", "a:x", "b")] == [READY, ABSENT, READY]
        shelf.residency.residents.give_back(shelf.entry("a").resident, base)


@play
async def test_what_a_base_fails_with_its_adapter_fails_with(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        shelf.errors["a"] = BundleInvalid("the base is damaged")
        with pytest.raises(BundleInvalid, match="the base is damaged"):
            await shelf.load("a:x")
        assert shelf.opened == ["a"]
        shelf.errors.clear()
        shelf.errors["a+x"] = BundleInvalid("made for another base")
        with pytest.raises(BundleInvalid, match="another base"):
            await shelf.load("a:x")
        assert shelf.state("a") is READY
        assert not shelf.entry("a").resident.users


@play
async def test_names_of_adapters(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        shelf.residency.catalogue.alias("chat", "a")
        assert shelf.entry("chat:x") is shelf.entry("a:x")
        assert shelf.residency.catalogue.infos()[1].aliases == ("chat:x",)
        with pytest.raises(UnknownModel, match="no adapter 'z' of a here; there are: x"):
            shelf.entry("chat:z")
        with pytest.raises(UnknownModel, match="no model 'b:x' here"):
            shelf.entry("b:x")


@play
async def test_an_adapter_without_its_base_says_so(tmp_path: Path) -> None:
    async with shelf_with(tmp_path) as shelf:
        (tmp_path / "a").rename(tmp_path / ".gone")
        shelf.residency.catalogue.look()
        with pytest.raises(UnknownModel, match="no model 'a' here"):
            await shelf.load("a:x")
