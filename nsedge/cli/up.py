"""`nsedge up`: the core and the HTTP shim as child processes of a person's terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsedge.cli import output, signals
from nsedge.cli.exits import ExitStatus
from nsedge.cli.signals import StopRequests
from nsedge.config import reader as config
from nsedge.process import console

GRACE_S = 5.0
"""The time that a child gets beyond its own to drain, before it is killed."""


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Run both until Ctrl-C, or until one ends."""
    limit_s = max(loaded.settings.core.drain_s, loaded.settings.web.drain_s) + GRACE_S
    flags = ["--config", str(options.config)] if options.config else []
    for said in options.overrides:
        flags += ["--set", f"{said.key}={said.text}"]
    with tempfile.TemporaryDirectory(prefix="nsedge-up-") as folder:
        pair = Pair(flags=flags, folder=Path(folder), limit_s=limit_s, as_json=options.json)
        return signals.run(pair.run(until_eof=options.until_eof))


@dataclass(kw_only=True)
class Child:
    """A running child: what it says when it is ready, who hears that, and its end."""

    name: str
    process: asyncio.subprocess.Process
    ready: asyncio.Future[str]
    hearing: asyncio.Task[None]
    ended: asyncio.Task[int]


class Pair:
    """Both children: started together, stopped together."""

    def __init__(self, *, flags: list[str], folder: Path, limit_s: float, as_json: bool) -> None:
        self._flags = flags
        self._folder = folder
        self._limit_s = limit_s
        self._as_json = as_json

    async def run(self, *, until_eof: bool) -> int:
        """The status to end with: 0 where asked to stop, else that of the child that ended."""
        stop = StopRequests(until_eof=until_eof)
        async with contextlib.AsyncExitStack() as stack:
            children = [await self._start(stack, name) for name in ("serve", "web")]
            try:
                first = await self._watch(children, stop)
            finally:
                await self._stop(children, stop)
        if first is None:
            return ExitStatus.OK
        status = first.ended.result()
        ended = f"ended by itself with status {status}"
        if self._as_json:
            self.tell(first.name, ended)
        else:
            console.note(f"{first.name:5}  {ended}")
        return status or ExitStatus.FAILURE

    async def _start(self, stack: contextlib.AsyncExitStack, name: str) -> Child:
        address = self._folder / name
        inbox = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        inbox.bind(str(address))
        inbox.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nsedge", name, "--until-eof", *self._flags),
            stdin=asyncio.subprocess.PIPE,  # ends with this process, however that dies
            start_new_session=True,  # Ctrl-C reaches the children through here alone
            env={**config.environment(), "NOTIFY_SOCKET": str(address)},
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return Child(
            name=name,
            process=process,
            ready=ready,
            hearing=asyncio.create_task(hear(inbox, ready)),
            ended=asyncio.create_task(_end(process)),
        )

    async def _watch(self, children: list[Child], stop: StopRequests) -> Child | None:
        """The first child that ended; None where a stop was asked for."""
        asked = asyncio.create_task(stop.wanted.wait())
        untold = list(children)
        try:
            while True:
                awaited: list[asyncio.Future[Any]] = [asked, *(child.ended for child in children)]
                awaited += [child.ready for child in untold]
                await asyncio.wait(awaited, return_when="FIRST_COMPLETED")
                for child in [child for child in untold if child.ready.done()]:
                    untold.remove(child)
                    self.tell(child.name, child.ready.result())
                if asked.done():
                    return None
                for child in children:
                    if child.ended.done():
                        return child
        finally:
            asked.cancel()

    async def _stop(self, children: list[Child], stop: StopRequests) -> None:
        """Ask the children to stop, pass a second Ctrl-C on, and kill what does not heed."""
        _signal(children, signal.SIGTERM)
        ends = asyncio.gather(*(child.ended for child in children))
        hurry = asyncio.create_task(stop.hurried.wait())
        await asyncio.wait((ends, hurry), timeout=self._limit_s, return_when="FIRST_COMPLETED")
        if not ends.done():
            _signal(children, signal.SIGTERM)
            await asyncio.wait((ends,), timeout=GRACE_S)
            _signal(children, signal.SIGKILL)
        hurry.cancel()
        await ends
        for child in children:
            child.hearing.cancel()

    def tell(self, name: str, text: str) -> None:
        """Say what became of a child; both go on where nobody hears it."""
        with contextlib.suppress(console.OutputLost, BrokenPipeError):
            if self._as_json:
                output.say_json({"process": name, "status": text})
            else:
                console.say(f"{name:5}  {text}")


def _signal(children: list[Child], number: signal.Signals) -> None:
    for child in children:
        if not child.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process.pid, number)


async def hear(inbox: socket.socket, ready: asyncio.Future[str]) -> None:
    """Tell `ready` what the child says of itself with READY=1. It is heard to its end: it could not
    send any more once a few datagrams lay unread."""
    loop = asyncio.get_running_loop()
    while True:
        lines = (await loop.sock_recv(inbox, 4096)).decode(errors="replace").splitlines()
        if "READY=1" in lines and not ready.done():
            status = [line for line in lines if line.startswith("STATUS=")]
            ready.set_result(status[0].removeprefix("STATUS=") if status else "ready")


async def _end(process: asyncio.subprocess.Process) -> int:
    """Its exit status as shells say it."""
    status = await process.wait()
    return status if status >= 0 else 128 - status
