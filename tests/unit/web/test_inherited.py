"""The shim on a socket that a supervisor listens on."""

from __future__ import annotations

import asyncio
import os
import socket

from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.listening import Listener, serve
from tests.fakes import FakeService
from tests.web_server import ask


def test_a_socket_that_was_passed_is_listened_on_instead_of_host_and_port() -> None:
    async def scenario() -> None:
        stop, told = asyncio.Event(), asyncio.get_running_loop().create_future()
        with socket.create_server(("127.0.0.1", 0)) as passed:
            port = passed.getsockname()[1]
            waiting = asyncio.create_task(ask(port, "GET", "/live"))  # before anybody serves
            serving = asyncio.create_task(
                serve(
                    Listener(
                        app=create_app(Answering(FakeService())),
                        host="203.0.113.1",
                        port=1,
                        inherited=[os.dup(passed.fileno())],
                        on_listening=lambda *address: told.set_result(address),
                    ),
                    stop=stop,
                )
            )
            assert await told == ("127.0.0.1", port)
            assert (await waiting).status == 200
            stop.set()
            await serving
            assert passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)

    asyncio.run(scenario())
