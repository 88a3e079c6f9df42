"""The configuration read anew: what is taken over, what waits, and what the supervisor hears."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from nsedge.cli import supervised
from nsedge.cli.rereading import Reloader, compare, take_over
from nsedge.cli.signals import ReloadRequests
from nsedge.config.reader import Loaded, Override, load
from nsedge.config.settings import Settings
from nsedge.errors import ConfigInvalid, DeviceUnavailable
from nsedge.process.sdnotify import Notifier

LIVE = {"core.drain_s", "log.level"}


def loaded(**pairs: str) -> Loaded:
    overrides = [
        Override(flag="--set", key=key.replace("__", "."), text=text) for key, text in pairs.items()
    ]
    return load({"HOME": "/h"}, overrides=overrides)


def settings(**pairs: str) -> Settings:
    return loaded(**pairs).settings


@pytest.fixture
def inbox(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(60)
        yield door


def reloader(before: Settings, reread, *, apply=None, notifier=None) -> Reloader:
    async def nothing(_: Settings) -> str:
        return ""

    return Reloader(
        before,
        reread=reread,
        notifier=notifier or Notifier(None),
        ours={"core", "engine", "log", "home"},
        live=LIVE,
        apply=apply or nothing,
    )


def test_what_can_change_is_taken_over_and_the_rest_still_differs():
    before = settings()
    after = settings(core__drain_s="3", engine__slots="2", log__level="debug", home="/srv")
    changes = compare(before, after, ours={"core", "engine", "log", "home"}, live=LIVE)
    assert (changes.applied, changes.deferred) == (
        ("core.drain_s", "log.level"),
        ("home", "core.endpoint", "engine.slots"),
    )
    now = take_over(before, after, changes)
    assert (now.core.drain_s, now.log.level, now.engine.slots) == (3.0, "debug", 16)
    assert compare(now, after, ours={"engine"}, live=LIVE).deferred == ("engine.slots",)


def test_what_others_go_by_is_not_told():
    changes = compare(settings(), settings(web__port="1"), ours={"core"}, live=LIVE)
    assert changes.in_words() == ""


def test_a_reload_says_what_came_of_it():
    async def scenario():
        seen = []

        async def apply(now: Settings) -> str:
            seen.append(now.core.drain_s)
            return "loaded b"

        after = loaded(core__drain_s="3", engine__slots="2")
        subject = reloader(settings(), lambda: after, apply=apply)
        said = await subject.reload()
        assert said == "changed core.drain_s; a restart is needed for engine.slots; loaded b"
        assert seen == [3.0]
        assert await reloader(settings(), loaded).reload() == "nothing changed"

    asyncio.run(scenario())


def test_what_cannot_be_read_or_had_changes_nothing():
    def broken() -> Loaded:
        raise ConfigInvalid("nsedge.toml: slotz: no such setting")

    async def refuses(_: Settings) -> str:
        raise DeviceUnavailable("no GPU")

    async def scenario():
        before = settings()
        subject = reloader(before, broken)
        assert await subject.reload() == "not reloaded: nsedge.toml: slotz: no such setting"
        assert subject.settings is before
        assert await reloader(before, loaded, apply=refuses).reload() == "not reloaded: no GPU"

    asyncio.run(scenario())


def test_a_hang_up_reloads_and_the_supervisor_hears_when(inbox):
    async def scenario():
        requests = ReloadRequests(terminal=False)
        subject = reloader(settings(), loaded, notifier=Notifier(inbox.getsockname()))
        following = asyncio.create_task(subject.follow(requests))
        os.kill(os.getpid(), signal.SIGHUP)
        said = [await asyncio.to_thread(inbox.recv, 4096) for _ in range(2)]
        following.cancel()
        return [one.decode().splitlines() for one in said]

    begun, done = asyncio.run(scenario())
    assert begun[0] == "RELOADING=1"
    assert begun[1].startswith("MONOTONIC_USEC=")
    assert int(begun[1].partition("=")[2]) > 0
    assert done == ["READY=1", "STATUS=nothing changed"]


def test_at_a_terminal_a_hang_up_ends_the_process():
    async def scenario():
        ReloadRequests(terminal=True)
        return signal.getsignal(signal.SIGHUP)

    assert asyncio.run(scenario()) is signal.SIG_DFL


def test_only_life_feeds_the_watchdog_and_only_news_changes_the_status(inbox):
    async def scenario():
        lives = iter([True, True, False, True])
        words = iter(["a", "a", "b"])
        over = asyncio.Event()

        async def alive(within_s: float) -> bool:
            assert within_s == pytest.approx(0.01)
            try:
                return next(lives)
            except StopIteration:
                over.set()
                return False

        async def say() -> str:
            return next(words)

        reporting = asyncio.create_task(
            supervised.report(
                Notifier(inbox.getsockname()),
                watchdog_s=0.03,
                alive=alive,
                words=say,
                every_s=5.0,
            )
        )
        await over.wait()
        reporting.cancel()

    asyncio.run(scenario())
    inbox.setblocking(False)
    heard = [inbox.recv(64).decode() for _ in range(5)]
    assert heard == ["WATCHDOG=1", "STATUS=a", "WATCHDOG=1", "WATCHDOG=1", "STATUS=b"]
    with pytest.raises(BlockingIOError):
        inbox.recv(64)
