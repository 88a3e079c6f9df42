"""A measuring program or a peer's server, as a process of our own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nsedge.bundle.files import sha256_of

ROOT = Path(__file__).parents[2]
LINE_BYTES = 2**20


class ProgramFailed(RuntimeError):
    """A measuring program ended before it answered; its own words are on standard error."""


class Program:
    """A program of `bench.peers.programs`: one request at a time."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name, self._process = name, process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Do an operation in the process; its answer.

        Raises:
            ProgramFailed: the program ended instead.
        """
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise ProgramFailed(f"{self._name} has no pipes")
        requests.write(json.dumps({"do": operation, **arguments}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await requests.drain()
        line = await answers.readline()
        if not line:
            raise ProgramFailed(f"{self._name} ended with {await self._process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result


@contextlib.asynccontextmanager
async def program(
    name: str,
    arguments: Sequence[object],
    *,
    python: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path,
) -> AsyncIterator[Program]:
    """Run `bench.peers.programs.NAME` under `python`; what it says goes to the end of `log`."""
    with log.open("ab") as words:
        process = await asyncio.create_subprocess_exec(
            python or sys.executable,
            *("-m", f"bench.peers.programs.{name}"),
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=words,
            limit=LINE_BYTES,
            cwd=ROOT,
            env=environment,
        )
    try:
        yield Program(name, process)
    finally:
        await end(process)


def program_digest(name: str) -> str:
    """A hash of a program's source: new code measures anew."""
    return sha256_of(Path(__file__).parent / "programs" / f"{name}.py")


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask the process to stop, and wait until it did."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()
