"""Models come and go: the keeper over models without weights."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from nsedge.api import ModelState, Priority
from nsedge.errors import BundleInvalid, InsufficientMemory, NsedgeError, Unavailable, UnknownModel
from nsedge.runtime.residency.entries import Origin
from nsedge.runtime.residency.settings import ResidencySettings
from tests.ipc import until
from tests.unit.shelf import FakeUser, Shelf


def play(scenario: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @functools.wraps(scenario)
    def test(tmp_path: Path) -> None:
        asyncio.run(scenario(tmp_path))

    return test


@play
async def test_a_model_comes_and_goes(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 10}) as shelf:
        assert shelf.state("a") is ModelState.ABSENT
        resident = await shelf.load("a")
        assert shelf.state("a") is ModelState.READY
        assert resident.model is not None
        assert resident.model.started
        assert await shelf.residency.unload(shelf.entry("a"))
        assert shelf.state("a") is ModelState.ABSENT
        assert shelf.models[0].closed
        assert not await shelf.residency.unload(shelf.entry("a"))


def test_why_a_bundle_cannot_be_read_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with Shelf(tmp_path, {"a": 10}) as shelf:
            (tmp_path / "a" / "manifest.json").write_text("{")
            shelf.residency.catalogue.look()
            for _ in range(2):
                with pytest.raises(BundleInvalid, match="truncated"):
                    await shelf.load("a")

    asyncio.run(scene())
    assert caplog.text.count("Input data was truncated") == 1


@play
async def test_states_on_the_way(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 10}) as shelf:
        gate = shelf.held_back("a")
        loading = asyncio.create_task(shelf.load("a"))
        await until(lambda: shelf.opened == ["a"])
        entry = shelf.entry("a")
        await until(lambda: entry.info().progress == 0.5)
        assert entry.info().state is ModelState.LOADING
        assert entry.info().queue_position == 0
        gate.set()
        resident = await loading
        info = entry.info()
        assert (info.state, info.progress, info.queue_position) == (ModelState.READY, None, None)
        assert info.memory is not None
        user = shelf.use(resident)
        leaving = asyncio.create_task(shelf.residency.unload(entry))
        await until(lambda: entry.state is ModelState.DRAINING)
        assert entry.info().in_use == 1
        shelf.residency.residents.give_back(resident, user)
        assert await leaving


@play
async def test_loads_go_by_priority_and_tell_their_place(tmp_path: Path) -> None:
    async with Shelf(tmp_path, dict.fromkeys("abc", 1)) as shelf:
        gate = shelf.held_back("a")
        first = asyncio.create_task(shelf.load("a"))
        await until(lambda: shelf.opened == ["a"])
        low = asyncio.create_task(shelf.load("b", priority=Priority.BATCH))
        await until(lambda: shelf.entry("b").load is not None)
        seen: list[int] = []
        load = shelf.entry("b").load
        assert load is not None
        load.watchers.add(lambda: seen.append(load.position))
        high = asyncio.create_task(shelf.load("c", priority=Priority.INTERACTIVE))
        await until(lambda: seen == [2])
        gate.set()
        await asyncio.gather(first, low, high)
        assert shelf.opened == ["a", "c", "b"]
        assert seen[:3] == [2, 1, 0]


@play
async def test_joining_a_load_makes_it_more_urgent(tmp_path: Path) -> None:
    async with Shelf(tmp_path, dict.fromkeys("abc", 1)) as shelf:
        gate = shelf.held_back("a")
        tasks = [asyncio.create_task(shelf.load("a"))]
        await until(lambda: shelf.opened == ["a"])
        for name, priority in (("b", "normal"), ("c", "batch"), ("c", "interactive")):
            wish = shelf.load(name, priority=Priority(priority), keep_alive_s=7.0)
            tasks.append(asyncio.create_task(wish))
            await asyncio.sleep(0)
        gate.set()
        residents = await asyncio.gather(*tasks)
        assert shelf.opened == ["a", "c", "b"]
        assert residents[2] is residents[3]
        assert residents[2].keep_alive_s == 7.0


@play
async def test_the_longest_unused_leaves_for_another(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 40, "b": 40, "c": 40}, budget=100) as shelf:
        await shelf.load("a")
        shelf.clock.advance(1.0)
        await shelf.load("b")
        shelf.clock.advance(1.0)
        await shelf.load("c")
        states = [shelf.state(name) for name in "abc"]
        assert states == [ModelState.ABSENT, ModelState.READY, ModelState.READY]
        told = shelf.residency.residents.stats()
        assert (told.used_bytes, told.budget_bytes, told.evictions) == (80, 100, 1)


@play
async def test_a_model_in_use_is_never_evicted(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60, "b": 60}, budget=100) as shelf:
        user = shelf.use(resident := await shelf.load("a"))
        waiting = asyncio.create_task(shelf.load("b"))
        await until(lambda: (load := shelf.entry("b").load) is not None and load.begun)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert shelf.state("a") is ModelState.READY
        assert shelf.opened == ["a"]
        shelf.residency.residents.give_back(resident, user)
        await waiting
        assert shelf.state("a") is ModelState.ABSENT
        assert user.error is None


@play
async def test_a_load_that_waits_too_long_stops_new_users_only(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60, "b": 60}, budget=100) as shelf:
        user = shelf.use(resident := await shelf.load("a"))
        waiting = asyncio.create_task(shelf.load("b"))
        await until(lambda: (load := shelf.entry("b").load) is not None and load.begun)
        shelf.clock.advance(shelf.settings.patience_s)
        await until(lambda: shelf.state("a") is ModelState.DRAINING)
        assert user.error is None
        shelf.residency.residents.give_back(resident, user)
        await waiting


@play
async def test_what_can_never_fit_is_refused_with_figures(tmp_path: Path) -> None:
    mib = 2**20
    sizes = {"a": 60 * mib, "b": 50 * mib}
    async with Shelf(tmp_path, sizes, budget=100 * mib, pinned=frozenset("a")) as shelf:
        await shelf.load("a")
        with pytest.raises(InsufficientMemory) as caught:
            await shelf.load("b")
        said = str(caught.value)
        assert said == "b needs 50 MiB of memory; 40 MiB can be had, of a budget of 100 MiB"
        assert shelf.state("b") is ModelState.ABSENT
        assert shelf.opened == ["a"]


@play
async def test_the_machines_own_memory_bounds_too(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60}, budget=100, available=50) as shelf:
        with pytest.raises(InsufficientMemory):
            await shelf.load("a")
        shelf.available = 60
        await shelf.load("a")


@play
async def test_what_takes_more_than_expected_goes_again_and_is_known_then(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 120}, budget=100) as shelf:
        shelf.expected["a"] = 10
        with pytest.raises(InsufficientMemory):
            await shelf.load("a")
        assert shelf.models[0].closed
        assert shelf.residency.residents.stats().used_bytes == 0
        with pytest.raises(InsufficientMemory):
            await shelf.load("a")
        assert shelf.opened == ["a"], "what was measured once is not tried again"


@play
async def test_caches_that_grow_push_out_what_is_unused(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 40, "b": 40}, budget=100) as shelf:
        await shelf.load("a")
        shelf.clock.advance(1.0)
        shelf.use(resident := await shelf.load("b"))
        assert resident.model is not None
        resident.model.amount = resident.model.amount + resident.model.amount
        await until(lambda: shelf.state("a") is ModelState.ABSENT)
        assert shelf.state("b") is ModelState.READY


@play
async def test_idle_models_leave_after_their_keep_alive(tmp_path: Path) -> None:
    settings = ResidencySettings(keep_alive_s=60.0, keep_alives={"b": 10.0})
    sizes = dict.fromkeys("abcd", 1)
    async with Shelf(tmp_path, sizes, settings=settings, pinned=frozenset("c")) as shelf:
        for name in "abc":
            await shelf.load(name)
        await shelf.load("d", keep_alive_s=math.inf)
        user = shelf.use(busy := await shelf.load("a"))
        shelf.clock.advance(10.0)
        await until(lambda: shelf.state("b") is ModelState.ABSENT)
        shelf.clock.advance(1000.0)
        shelf.residency.sweep()
        assert [shelf.state(name) for name in "acd"] == [ModelState.READY] * 3
        shelf.residency.residents.give_back(busy, user)
        shelf.residency.sweep()
        assert shelf.state("a") is ModelState.READY, "its idle time begins when its use ends"
        shelf.clock.advance(60.0)
        await until(lambda: shelf.state("a") is ModelState.ABSENT)
        assert shelf.residency.residents.stats().idle_unloads == 2


@play
async def test_a_request_may_say_how_long_its_model_stays(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}) as shelf:
        resident = await shelf.load("a")
        shelf.residency.residents.give_back(resident, shelf.use(resident), 0.0)
        await until(lambda: shelf.state("a") is ModelState.ABSENT)


@play
async def test_an_exclusive_load_has_all_others_leave_but_the_pinned(tmp_path: Path) -> None:
    async with Shelf(tmp_path, dict.fromkeys("abc", 1), pinned=frozenset("a")) as shelf:
        await shelf.load("a")
        await shelf.load("b")
        await shelf.load("c", exclusive=True)
        states = [shelf.state(name) for name in "abc"]
        assert states == [ModelState.READY, ModelState.ABSENT, ModelState.READY]


@play
async def test_unloading_with_a_deadline_ends_what_runs(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}) as shelf:
        user = shelf.use(await shelf.load("a"))
        assert await shelf.residency.unload(shelf.entry("a"), drain_s=0.01)
        assert isinstance(user.error, Unavailable)
        assert user.error.message == "a was unloaded"


@play
async def test_unloading_what_is_only_queued_ends_its_load(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}) as shelf:
        gate = shelf.held_back("a")
        first = asyncio.create_task(shelf.load("a"))
        await until(lambda: shelf.opened == ["a"])
        second = asyncio.create_task(shelf.load("b"))
        await until(lambda: shelf.entry("b").load is not None)
        assert not await shelf.residency.unload(shelf.entry("b"))
        with pytest.raises(Unavailable):
            await second
        gate.set()
        await first
        assert shelf.opened == ["a"]


@play
async def test_what_nobody_waits_for_any_more_is_not_loaded(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60, "b": 60, "c": 1}, budget=100) as shelf:
        shelf.use(await shelf.load("a"))
        waiting = asyncio.create_task(shelf.load("b", origin=Origin.REQUEST))
        await until(lambda: (load := shelf.entry("b").load) is not None and load.begun)
        load = shelf.entry("b").load
        assert load is not None
        load.waiting += 1
        shelf.residency.forgo(load)
        with pytest.raises(Unavailable):
            await waiting
        await shelf.load("c")
        assert shelf.opened == ["a", "c"]


@play
async def test_a_failed_load_tells_why_and_can_be_tried_again(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1}) as shelf:
        shelf.errors["a"] = BundleInvalid("a/model.onnx is not a graph")
        with pytest.raises(BundleInvalid):
            await shelf.load("a")
        info = shelf.entry("a").info()
        assert (info.state, info.error) == (ModelState.FAILED, "a/model.onnx is not a graph")
        with pytest.raises(BundleInvalid):
            await shelf.load("a", origin=Origin.REQUEST)
        assert shelf.opened == ["a"], "a request does not try again at once"
        del shelf.errors["a"]
        shelf.clock.advance(shelf.settings.retry_s)
        await shelf.load("a", origin=Origin.REQUEST)
        assert shelf.entry("a").info().error is None


@play
async def test_an_unforeseen_error_fails_the_load_alone(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}) as shelf:
        shelf.errors["a"] = ZeroDivisionError("what")
        with pytest.raises(NsedgeError, match="could not be loaded"):
            await shelf.load("a")
        await shelf.load("b")


@play
async def test_reloading_replaces_a_model_under_its_users(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 10}, budget=100) as shelf:
        user = shelf.use(old := await shelf.load("a"))
        new = await shelf.residency.reload(shelf.entry("a")).done
        assert new is not old
        assert shelf.entry("a").ready is new
        assert not shelf.models[0].closed
        shelf.residency.residents.give_back(old, user)
        await until(lambda: shelf.models[0].closed)
        assert shelf.state("a") is ModelState.READY
        assert user.error is None


@play
async def test_reloading_without_room_for_two_lets_the_old_one_go_first(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60}, budget=100) as shelf:
        await shelf.load("a")
        await shelf.residency.reload(shelf.entry("a")).done
        assert [model.closed for model in shelf.models] == [True, False]


@play
async def test_aliases(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 1, "b": 1}, aliases={"gpt": "a"}) as shelf:
        assert shelf.entry("gpt").name == "a"
        shelf.residency.catalogue.alias("gpt", "b")
        assert shelf.entry("gpt").info().aliases == ("gpt",)
        assert shelf.entry("a").info().aliases == ()
        with pytest.raises(NsedgeError, match="own name"):
            shelf.residency.catalogue.alias("a", "b")
        shelf.residency.catalogue.alias("gpt", None)
        with pytest.raises(UnknownModel):
            shelf.entry("gpt")


@play
async def test_stopping_ends_loads_and_users(tmp_path: Path) -> None:
    user: FakeUser
    async with Shelf(tmp_path, {"a": 60, "b": 60}, budget=100) as shelf:
        user = shelf.use(await shelf.load("a"))
        waiting = asyncio.create_task(shelf.load("b"))
        await until(lambda: shelf.entry("b").load is not None)
        await shelf.residency.stop()
        with pytest.raises(NsedgeError, match="stopping"):
            await waiting
        assert user.error is not None
        with pytest.raises(NsedgeError, match="stopping"):
            await shelf.load("b")


@play
async def test_at_the_start_nobody_leaves_for_another(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60, "b": 60}, budget=100) as shelf:
        await shelf.load("a", origin=Origin.START)
        with pytest.raises(InsufficientMemory):
            await shelf.load("b", origin=Origin.START)
        assert shelf.state("a") is ModelState.READY


@play
async def test_what_is_leaving_can_be_wanted_again(tmp_path: Path) -> None:
    async with Shelf(tmp_path, {"a": 60}, budget=100) as shelf:
        user = shelf.use(old := await shelf.load("a"))
        leaving = asyncio.create_task(shelf.residency.unload(shelf.entry("a")))
        await until(lambda: shelf.state("a") is ModelState.DRAINING)
        again = asyncio.create_task(shelf.load("a", origin=Origin.REQUEST))
        await until(lambda: shelf.entry("a").load is not None)
        shelf.residency.residents.give_back(old, user)
        assert await leaving
        assert await again is not old
        assert [model.closed for model in shelf.models] == [True, False]
        assert shelf.state("a") is ModelState.READY
