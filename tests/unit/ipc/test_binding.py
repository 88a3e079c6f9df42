"""Where a server listens, how it refuses to, and what it leaves behind."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import stat
from collections.abc import Coroutine
from typing import Any

import pytest

from nsedge.errors import ConfigInvalid
from nsedge.ipc.access import Access
from nsedge.ipc.server import Server
from nsedge.ipc.socket_files import Permit
from tests.fakes import FakeService
from tests.ipc import RawClient, serving, short_directory, until


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_stop_tells_every_live_request() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        with short_directory() as directory:
            path = directory / "core.sock"
            server = Server(service, endpoints=[f"ipc://{path}"])
            await server.start()
            async with RawClient(f"ipc://{path}") as client:
                await client.hello()
                await client.generate("a", "x")
                await client.hear()
                await server.stop()
                await server.stop()
                (failure,) = await client.hear_until_end("a")
                assert failure["code"] == "draining"
                await until(lambda: service.cancelled == 1)
            assert not path.exists()
            assert not path.with_name("core.sock.control").exists()

    run(scenario())


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_socket_files_have_their_mode_whatever_the_umask(mode: int) -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            path = directory / "core.sock"
            server = Server(
                FakeService(), endpoints=[f"ipc://{path}"], access=Access(permit=Permit(mode=mode))
            )
            await server.start()
            for name in ("core.sock", "core.sock.control"):
                assert stat.S_IMODE(path.with_name(name).stat().st_mode) == mode
            await server.stop()

    before = os.umask(0)
    try:
        run(scenario())
    finally:
        os.umask(before)


def test_two_daemons_at_one_path_are_refused_and_the_first_lives_on() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint:
            second = Server(FakeService(), endpoints=[endpoint])
            with pytest.raises(ConfigInvalid, match="another daemon listens"):
                await second.start()
            async with RawClient(endpoint) as client:
                assert (await client.hello())["type"] == "welcome"

    run(scenario())


def test_a_taken_port_is_refused_and_nothing_stays_bound() -> None:
    async def scenario() -> None:
        with short_directory() as directory, socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            path = directory / "core.sock"
            server = Server(FakeService(), endpoints=[f"ipc://{path}", f"tcp://127.0.0.1:{port}"])
            with pytest.raises(ConfigInvalid, match=f"127.0.0.1:{port}"):
                await server.start()
            assert not path.exists()

    run(scenario())


@pytest.mark.parametrize(
    "options",
    [
        {"endpoints": []},
        {"endpoints": ["tcp://0.0.0.0:3010"]},
        {"endpoints": ["tcp://127.0.0.1:3010", "tcp://127.0.0.1:3011"]},
    ],
)
def test_impossible_servers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigInvalid):
        Server(FakeService(), **options)


def test_remote_endpoints_with_leave() -> None:
    Server(FakeService(), endpoints=["tcp://0.0.0.0:3010"], access=Access(allow_cleartext=True))


@pytest.mark.parametrize(
    ("permit", "fault"),
    [({"mode": 0o666}, "socket_mode"), ({"group": "root"}, "needs socket_mode 0660")],
)
def test_a_socket_is_never_open_to_all(permit: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigInvalid, match=fault):
        Permit(**permit)


def test_a_group_gets_its_socket_and_the_folder_made_for_it() -> None:
    group = grp.getgrgid(os.getgid())

    async def scenario() -> None:
        with short_directory() as directory:
            path = directory / "run" / "core.sock"
            permit = Permit(mode=0o660, group=group.gr_name)
            server = Server(
                FakeService(), endpoints=[f"ipc://{path}"], access=Access(permit=permit)
            )
            await server.start()
            assert path.stat().st_gid == path.parent.stat().st_gid == group.gr_gid
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
            await server.stop()

    run(scenario())


def test_a_group_that_is_not_there_is_told_and_nothing_stays_bound() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            path = directory / "core.sock"
            permit = Permit(mode=0o660, group="nobody-has-this-group")
            server = Server(
                FakeService(), endpoints=[f"ipc://{path}"], access=Access(permit=permit)
            )
            with pytest.raises(ConfigInvalid, match="socket_group"):
                await server.start()
            assert not path.exists()

    run(scenario())
