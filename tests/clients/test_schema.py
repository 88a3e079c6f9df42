"""schemathesis reads the shim's own OpenAPI document, and finds nothing that is not as it says.

The shim is real, over the fake core behind a real socket: what is tried is every route, field and
status, not a model. `schema/schemathesis.toml` says how, and why where a default does not hold.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsedge.ipc.client import AsyncClient
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.door_settings import DoorSettings
from tests.clients.environments import HERE, python_of
from tests.fake_daemon import fake_daemon
from tests.fakes import MODEL, FakeService
from tests.web_server import running

SECRET = "schema-key"
SETTINGS = DoorSettings(vision_model=MODEL)
INSTALL_S = 600
LIMIT_S = 1200
pytestmark = [pytest.mark.clients, pytest.mark.timeout(INSTALL_S + LIMIT_S)]


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing,stateful"])
def test_schemathesis_finds_nothing(tmp_path: Path, phases: str) -> None:
    python, told = python_of("schemathesis"), tmp_path / "openapi.json"
    place = shutil.copytree(HERE / "schema", tmp_path / "schema")  # it notes failures there
    with fake_daemon(tmp_path, FakeService()) as endpoint, shim(endpoint, keys(tmp_path)) as url:
        told.write_bytes(document_of(url))
        done = subprocess.run(
            [
                *(str(python.with_name("schemathesis")), "--config-file", "schemathesis.toml"),
                *("run", str(told), "--url", url, "--phases", phases),
            ],
            cwd=place,
            env=environment() | {"NSEDGE_PHASES": phases},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def document_of(url: str) -> bytes:
    asked = urllib.request.Request(
        f"{url}/openapi.json", headers={"Authorization": f"Bearer {SECRET}"}
    )
    with urllib.request.urlopen(asked) as answer:
        whole: bytes = answer.read()
    return whole


def environment() -> dict[str, str]:
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return clean | {"NSEDGE_KEY": SECRET}


def keys(folder: Path) -> WatchedFile[KeyRing]:
    path = folder / "keys.json"
    every = ApiKey(name="all", sha256=keyring.digest_of(SECRET), scopes=tuple(Scope))
    keyring.write(path, KeyRing(api=(every,)))
    return WatchedFile(path, keyring.read)


@contextmanager
def shim(endpoint: str, keys: WatchedFile[KeyRing]) -> Iterator[str]:
    """The shim on a thread of its own; yields its address."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with (
            AsyncClient(endpoint) as client,
            running(client, keys=keys, settings=SETTINGS) as there,
        ):
            urls.append(there.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10), "the shim did not start"
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
