"""Signals to stop, at whatever moment they come."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCENE = """
import asyncio, os, signal, sys
from asyncio import selector_events
from nsedge.cli import signals

number = getattr(signal, sys.argv[1])
close = selector_events.BaseSelectorEventLoop._close_self_pipe

def closed(loop):
    close(loop)
    os.kill(os.getpid(), number)
    for _ in range(1000):  # the interpreter looks for what came between two of these
        pass

async def main():
    signals.StopRequests()
    signals.ReloadRequests(terminal=False)
    selector_events.BaseSelectorEventLoop._close_self_pipe = closed
    return 7

sys.exit(signals.run(main()))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_comes_as_the_loop_closes_is_not_told(name: str) -> None:
    command = [sys.executable, "-c", SCENE, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
