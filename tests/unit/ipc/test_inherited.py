"""Sockets that a supervisor listens on for the core."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsedge.config.endpoints import IpcEndpoint, TcpEndpoint
from nsedge.errors import ConfigInvalid
from nsedge.ipc.inherited import by_endpoint
from nsedge.ipc.server import Server
from tests.fakes import FakeService
from tests.ipc import RawClient, short_directory


@contextmanager
def listening(*paths: Path) -> Iterator[list[int]]:
    doors = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in paths]
    try:
        for door, path in zip(doors, paths, strict=True):
            door.bind(str(path))
            door.listen(8)
        yield [door.fileno() for door in doors]
    finally:
        for door in doors:
            door.close()


def test_sockets_are_told_apart_by_where_they_listen() -> None:
    with (
        short_directory() as directory,
        listening(directory / "a.sock") as doors,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        port = tcp.getsockname()[1]
        assert by_endpoint([*doors, tcp.fileno()]) == {
            IpcEndpoint(directory / "a.sock"): doors[0],
            TcpEndpoint("127.0.0.1", port): tcp.fileno(),
        }
        assert not os.get_inheritable(doors[0])
        assert not os.get_blocking(doors[0])


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as idle, pytest.raises(ConfigInvalid, match="does not listen"):
        by_endpoint([idle.fileno()])
    read, write = os.pipe()
    try:
        with pytest.raises(ConfigInvalid, match="is no socket"):
            by_endpoint([read])
    finally:
        os.close(read)
        os.close(write)


def test_a_client_that_came_before_the_core_is_served_by_it_and_by_the_next() -> None:
    async def scenario() -> None:
        with short_directory() as directory:
            path = directory / "core.sock"
            endpoint = f"ipc://{path}"
            with listening(path, Path(f"{path}.control")) as doors:
                async with RawClient(endpoint) as early:
                    hello = asyncio.create_task(early.hello())
                    for _ in range(2):
                        server = Server(
                            FakeService(), endpoints=[endpoint], inherited=by_endpoint(doors)
                        )
                        await server.start()
                        await hello
                        await server.stop()
                        assert path.is_socket()
                        assert not Path(f"{path}.lock").exists()
                        hello = asyncio.create_task(early.hello())
                    hello.cancel()

    asyncio.run(scenario())


def test_a_socket_that_nobody_asked_for_is_refused() -> None:
    with short_directory() as directory:
        ours, other = directory / "core.sock", directory / "other.sock"
        with listening(other) as doors, pytest.raises(ConfigInvalid, match=r"none of the endpoint"):
            Server(FakeService(), endpoints=[f"ipc://{ours}"], inherited=by_endpoint(doors))
        with listening(ours) as doors, pytest.raises(ConfigInvalid, match="only one socket"):
            Server(FakeService(), endpoints=[f"ipc://{ours}"], inherited=by_endpoint(doors))


def test_a_tcp_endpoint_may_be_passed_too() -> None:
    async def scenario(port: int, doors: list[int]) -> None:
        endpoint = f"tcp://127.0.0.1:{port}"
        server = Server(FakeService(), endpoints=[endpoint], inherited=by_endpoint(doors))
        await server.start()
        async with RawClient(endpoint) as client:
            await client.hello()
        await server.stop()

    with neighbours() as (data, control):
        asyncio.run(scenario(data.getsockname()[1], [data.fileno(), control.fileno()]))


@contextmanager
def neighbours() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that listen at a port and at the next."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as data:
            port = data.getsockname()[1]
            try:
                control = socket.create_server(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            with control:
                yield data, control
                return
