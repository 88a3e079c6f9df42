"""Places that callers share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from nsedge.web.places import Places


class Holders:
    """Callers who hold places until they are told to leave; who has one, in the order they came."""

    def __init__(self, count: int) -> None:
        self.places = Places(count)
        self.inside: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._leave: dict[str, asyncio.Event] = {}

    def come(self, caller: str, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._hold(caller)) for _ in range(times)]

    async def _hold(self, caller: str) -> None:
        async with self.places.taken(caller):
            self.inside.append(caller)
            try:
                await self._leave.setdefault(caller, asyncio.Event()).wait()
            finally:
                self.inside.remove(caller)

    def leave(self, caller: str) -> None:
        self._leave[caller].set()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def holders(count: int) -> AsyncIterator[Holders]:
    made = Holders(count)
    try:
        yield made
    finally:
        await made.end()


def test_a_caller_has_all_places_but_one() -> None:
    async def main() -> None:
        async with holders(4) as made:
            made.come("a", 10)
            await settled()
            assert Counter(made.inside) == {"a": 3}
            made.come("b", 10)
            await settled()
            assert Counter(made.inside) == {"a": 3, "b": 1}

    asyncio.run(main())


def test_a_free_place_goes_to_whoever_has_the_fewest() -> None:
    async def main() -> None:
        async with holders(4) as made:
            made.come("a", 5)
            made.come("b", 5)
            await settled()
            made.come("c", 5)
            await settled()
            before = Counter(made.inside)
            assert before["c"] == 0
            made.tasks[0].cancel()
            await settled()
            assert Counter(made.inside) == Counter(before) - Counter("a") + Counter("c")

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(4))
def test_whoever_is_cancelled_gives_back_what_he_had(steps: int) -> None:
    """Also at the moment when he is given his place."""

    async def main() -> None:
        async with holders(2) as made:
            made.come("a")
            made.come("b")
            await settled()
            made.come("c")
            await settled()
            made.tasks[0].cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
            made.tasks[2].cancel()
            made.come("d")
            await settled()
            assert sorted(made.inside) == ["b", "d"]

    asyncio.run(main())


def test_a_place_is_not_given_to_one_who_is_cancelled_just_now() -> None:
    async def main() -> None:
        async with holders(2) as made:
            made.come("a")
            made.come("b")
            await settled()
            made.come("c")
            made.come("d")
            await settled()
            made.leave("a")
            made.tasks[2].cancel()
            await settled()
            assert sorted(made.inside) == ["b", "d"]
            made.tasks[0].result()

    asyncio.run(main())
