"""A client in another language, written from the protocol page alone, gets its answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from exporters.cache import cache_root
from tests.fakes import MODEL, FakeService
from tests.ipc import serving

HERE = Path(__file__).parent
MIN_NODE = 18


def node_version() -> int:
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(found.stdout.strip().removeprefix("v").split(".")[0])


@pytest.fixture(scope="session")
def script() -> Path:
    """The script beside its installed packages, in a folder of the cache named by their lock."""
    if node_version() < MIN_NODE or shutil.which("npm") is None:
        pytest.skip(f"needs node {MIN_NODE} or newer, and npm")
    lock = (HERE / "package-lock.json").read_bytes()
    folder = cache_root() / "node" / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install zeromq and msgpack: {done.stderr[-500:]}")
        (folder / "installed").touch()
    shutil.copy(HERE / "stream.mjs", folder)
    return folder / "stream.mjs"


async def node(script: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What the script printed, and how it says the stream ended."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(script),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, told.decode()
    return out.decode(), json.loads(told.decode().splitlines()[-1])


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_node_streams_an_answer_with_credit_granted_on_the_way(script: Path) -> None:
    text = " ".join(f"wörd{n}🙂" for n in range(400))

    async def scenario() -> None:
        async with serving(FakeService()) as endpoint:
            said, end = await node(script, endpoint, MODEL, text)
            assert said == text
            assert (end["type"], end["reason"]) == ("finished", "stop")
            assert end["usage"] == {
                "prompt_tokens": 400,
                "completion_tokens": 400,
                "cached_tokens": 0,
            }

    run(scenario())


def test_node_cancels(script: Path) -> None:
    async def scenario() -> None:
        service = FakeService(repeat=10**6, max_untaken=10**6)
        async with serving(service) as endpoint:
            said, end = await node(script, endpoint, MODEL, "word", "--cancel-after", "3")
            assert said.startswith("wordword")
            assert (end["type"], end["reason"]) == ("finished", "cancelled")
            assert service.cancelled == 1

    run(scenario())


def test_node_is_refused(script: Path) -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint:
            _, end = await node(script, endpoint, "no-such-model", "x")
            assert (end["type"], end["code"]) == ("failed", "unknown_model")

    run(scenario())
