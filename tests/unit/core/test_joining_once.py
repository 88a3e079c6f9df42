"""Conversations with the same new medium at the same time: it is read once, and nobody depends on
how another ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nsedge.api import Priority
from nsedge.errors import InvalidMedia
from tests.unit.core.joining_room import fail, hear, room
from tests.unit.core.test_intake import play


@play
async def test_what_several_bring_at_once_is_heard_once(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        for label in "xyz":
            one.ask(label)
        (heard,) = await one.given("ears")
        hear(heard, "so")
        assert await one.joined(3) == ["Listen:\n[Audio 1: so]"]
        assert len(one.work("ears")) == 1
        told = [event for label in "xyz" for event in one.read(label)]
        assert sorted((event.cached, event.text) for event in told) == [
            (False, "so"),
            (True, "so"),
            (True, "so"),
        ]


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_where_the_first_has_no_luck_the_next_tries(tmp_path: Path, how: str) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder) as one:
            ticket = one.ask("x")
            (first,) = await one.given("ears")
            for label in "yz":
                one.ask(label)
            if how == "failed":
                fail(first, InvalidMedia("torn", param="media"))
                assert (await one.failed("x")).code == "invalid_media"
            else:
                ticket.cancel()
                await one.end("x")
            _, second = await one.given("ears", 2)
            hear(second, "so")
            await one.given("writer", 2)
            assert len(one.work("ears")) == 2

    scenario(tmp_path)


@play
async def test_one_that_waits_for_another_may_be_cancelled(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        ticket = one.ask("y")
        for _ in range(20):
            await asyncio.sleep(0)
        ticket.cancel()
        await one.end("y")
        assert not heard.cancelled
        hear(heard, "so")
        await one.given("writer")


@play
async def test_a_deadline_holds_while_another_has_it_read(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        one.ask("y", deadline_s=0.02)
        late = await one.failed("y")
        assert (late.code, late.param) == ("deadline_exceeded", "deadline_s")
        assert late.message.startswith("messages[0].content[1]: ")
        hear(heard, "so")
        await one.given("writer")


@play
async def test_nobody_waits_for_one_of_another_priority(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", priority=Priority.BATCH)
        await one.given("ears")
        one.ask("y", priority=Priority.INTERACTIVE)
        _, urgent = await one.given("ears", 2)
        assert urgent.request.priority is Priority.INTERACTIVE
        hear(urgent, "so")
        await one.given("writer")
