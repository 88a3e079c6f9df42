"""More HTTP connections than may be open."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from nsedge.cli.web import limits
from nsedge.config.reader import Override, load
from nsedge.process.descriptors import ceiling
from nsedge.web.limits import WebLimits
from tests.fakes import FakeService
from tests.web_server import Connection, running

MOST = 3
LIMITS = WebLimits(max_connections=MOST)


def test_one_too_many_is_answered_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Those that are there are served on, and newcomers again when one of them has left."""

    async def scene() -> None:
        async with asyncio.timeout(60), running(FakeService(), LIMITS) as shim:
            there = [await Connection.open(shim.port) for _ in range(MOST)]
            for one in there:
                one.say("GET", "/live")
                assert (await one.answer()).status == 200
            for _ in range(2):
                surplus = await Connection.open(shim.port)
                surplus.say("GET", "/live")
                answer = await surplus.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert json.loads(answer.body)["error"]["code"] == "unavailable"
                assert await surplus.reader.read() == b""
                surplus.writer.close()
            there[0].say("GET", "/metrics")
            assert b"\nnsedge_http_connections_refused_total 2\n" in (await there[0].answer()).body
            await there.pop().close()
            while True:
                newcomer = await Connection.open(shim.port)
                newcomer.say("GET", "/live")
                if (await newcomer.answer()).status == 200:
                    break
                newcomer.writer.close()
            for one in (*there, newcomer):
                await one.close()

    with caplog.at_level(logging.WARNING, "nsedge.web.connections"):
        asyncio.run(scene())
    assert [line.getMessage().split(":")[0] for line in caplog.records] == [
        "connections are refused"
    ]


def test_one_that_says_nothing_is_closed_too() -> None:
    async def scene() -> None:
        limits = WebLimits(max_connections=1)
        async with asyncio.timeout(60), running(FakeService(), limits) as shim:
            first = await Connection.open(shim.port)
            first.say("GET", "/live")
            await first.answer()
            silent = await Connection.open(shim.port)
            assert (await silent.reader.read()).startswith(b"HTTP/1.1 503 ")
            silent.writer.close()
            await first.close()

    asyncio.run(scene())


@pytest.mark.parametrize(("allowed", "expected"), [(None, 1000), (65536, 1000), (400, 300)])
def test_there_are_never_more_than_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, allowed: int | None, expected: int
) -> None:
    monkeypatch.setattr("nsedge.process.descriptors.limit", lambda: allowed)
    settings = load({"HOME": "/nowhere"}).settings
    assert limits(settings).max_connections == expected
    assert ceiling(400) == 300


def test_it_can_be_set() -> None:
    said = Override(flag="--set", key="web.max_connections", text="7")
    settings = load({"HOME": "/nowhere"}, overrides=[said]).settings
    assert limits(settings).max_connections == 7
