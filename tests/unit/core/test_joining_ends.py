"""Conversations with media that fail, are cancelled or come too late: each ends once, alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nsedge.api import (
    Finished,
    FinishReason,
)
from nsedge.errors import (
    BundleInvalid,
    ContextExceeded,
    InvalidMedia,
    NsedgeError,
    QueueFull,
)
from tests.ipc import until
from tests.unit.core.joining_room import fail, finish, hear, room, said, sound
from tests.unit.core.test_intake import play


@play
async def test_what_fails_is_named_and_the_rest_is_given_up(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x", said("a"), said("b", sound(b"1"), sound(b"2")))
        one.ask("y")
        first, second, other = await one.given("ears", 3)
        fail(second, InvalidMedia("no sound", param="media"))
        end = await one.failed("x")
        assert (end.code, end.param) == ("invalid_media", "messages")
        assert end.message == "messages[1].content[2]: no sound"
        await until(lambda: first.cancelled)
        assert not other.cancelled
        hear(other, "so")
        await one.given("writer")
        assert one.journal.failures == {"invalid_media": 1}


@pytest.mark.parametrize(
    ("error", "retryable"), [(QueueFull("full", retry_after_s=2.0), True), (KeyError("x"), False)]
)
def test_a_model_that_cannot_be_had_fails_the_request(
    tmp_path: Path, error: Exception, retryable: bool
) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder) as one:
            one.shelf.errors["ears"] = error
            one.ask("x")
            end = await one.failed("x")
            assert end.message.startswith("messages[0].content[1]: ")
            assert end.retryable is retryable
            if retryable:
                assert (end.code, end.retry_after_s) == ("queue_full", 2.0)
            assert not one.work("writer")

    scenario(tmp_path)


@play
async def test_nothing_is_loaded_on_demand_where_that_is_off(tmp_path: Path) -> None:
    async with room(tmp_path, on_demand=False) as one:
        one.ask("x")
        end = await one.failed("x")
        assert (end.code, end.retryable) == ("not_loaded", True)
        assert end.message.startswith("messages[0].content[1]: ears is not in memory")


@pytest.mark.parametrize("stage", ["admitted", "loading", "reading", "joined", "writing"])
def test_a_cancelled_request_ends_once_wherever_it_stands(tmp_path: Path, stage: str) -> None:
    @play
    async def scenario(folder: Path) -> None:
        async with room(folder) as one:
            gates = {name: one.shelf.held_back(name) for name in ("ears", "writer")}
            ticket = one.ask("x")
            if stage == "admitted":
                asyncio.get_running_loop().call_soon(ticket.cancel)
            if stage == "loading":
                await until(lambda: one.shelf.opened == ["ears"])
            if stage in ("reading", "joined", "writing"):
                gates["ears"].set()
                (heard,) = await one.given("ears")
            if stage in ("joined", "writing"):
                hear(heard, "so")
                await until(lambda: one.shelf.opened == ["ears", "writer"])
            if stage == "writing":
                gates["writer"].set()
                (written,) = await one.given("writer")
            if stage != "admitted":
                ticket.cancel()
            if stage == "writing":
                assert written.cancelled
                written.emit(Finished.cancelled("x"))
            end = await one.end("x")
            assert isinstance(end, Finished)
            assert end.reason is FinishReason.CANCELLED
            if stage == "reading":
                assert heard.cancelled

    scenario(tmp_path)


@play
async def test_a_deadline_holds_for_the_whole(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.held_back("writer")
        one.ask("x", deadline_s=10.0)
        (heard,) = await one.given("ears")
        assert heard.request.deadline_s == 10.0
        one.shelf.clock.advance(11.0)
        hear(heard, "so")
        end = await one.failed("x")
        assert (end.code, end.param) == ("deadline_exceeded", "deadline_s")
        assert end.message.startswith("writer was not loaded 11 s after admission")


@play
async def test_a_deadline_counts_while_the_first_model_loads(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.held_back("ears")
        one.ask("x", deadline_s=0.02)
        end = await one.failed("x")
        assert (end.code, end.param) == ("deadline_exceeded", "deadline_s")
        assert end.message.startswith("messages[0].content[1]: ears was not loaded")


@play
async def test_where_the_context_is_too_short_it_is_told_what_is_in_it(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        hear(heard, "so")
        (work,) = await one.given("writer")
        fail(work, ContextExceeded("9 tokens are more than 8", figures={"prompt_tokens": 9}))
        end = await one.failed("x")
        assert end.message == (
            "9 tokens are more than 8 (the prompt has in it what was made of one medium)"
        )
        assert end.figures == {"prompt_tokens": 9, "media": 1}


@play
async def test_a_reader_that_takes_nothing_loses_its_stream(tmp_path: Path) -> None:
    async with room(tmp_path, max_untaken=3) as one:
        one.ask("x", said(*[sound()] * 8))
        (heard,) = await one.given("ears")
        hear(heard, "so")
        assert (await one.failed("x")).code == "slow_consumer"
        assert not one.work("writer")


@play
async def test_a_load_that_fails_is_told_by_place(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.shelf.errors["ears"] = BundleInvalid("torn")
        one.ask("x")
        end = await one.failed("x")
        assert (end.code, end.message) == ("bundle_invalid", "messages[0].content[1]: torn")


@play
async def test_what_was_taken_is_read_while_no_more_is_taken(tmp_path: Path) -> None:
    async with room(tmp_path) as one:
        one.ask("x")
        (heard,) = await one.given("ears")
        draining = asyncio.create_task(one.intake.drain(10.0))
        one.intake._check_open = _refuse
        hear(heard, "so")
        (work,) = await one.given("writer")
        finish(work)
        await draining
        assert isinstance(await one.end("x"), Finished)


def _refuse() -> None:
    raise NsedgeError("no more")
