"""Pictures are read in a process of their own.

To decode and resize a photograph takes a core for longer than a step of a text stream takes both,
whose threads wait for each other at every product; and while memory is made for it, the interpreter
is held. Another process holds nobody's interpreter, and can be stopped: while streams run it goes
on in turns at the device only, for as long as a step of other work may take.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from typing import Any

from nsedge.api import Media
from nsedge.errors import NsedgeError, of_code
from nsedge.runtime.machine.arbiter import Seat
from nsedge.runtime.vision.child import Reply

CHILD = "nsedge.runtime.vision.child"
APART = "preparing"
"""The module whose functions are run in the process."""
LOOK_S = 0.02
"""Between two looks whether streams run."""
_here = threading.local()


class PictureProcess:
    """Runs functions of `preparing`, one at a time. It starts with the first call; where none comes
    for a while it ends, and is started anew."""

    def __init__(self, seat: Seat | None) -> None:
        """`seat`: where it gets its turns while streams run; None where they leave it a core."""
        self._seat = seat
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def call(self, function: str, *args: Any, **options: Any) -> Any:
        """What a function gives; raises as it does.

        Raises:
            NsedgeError: also where the process ends before there is an answer.
        """
        ended: Exception | None = None
        asked = pickle.dumps((function, args, options), pickle.HIGHEST_PROTOCOL)
        with self._lock:
            for _ in range(2):  # it may have ended since the last call
                try:
                    self._child = self._child or _Child()
                    self._child.pipe.send_bytes(asked)
                    self._wait(self._child)
                    reply = self._child.pipe.recv()
                except (EOFError, OSError) as error:  # also in the middle of an answer
                    ended = error
                    self._end()
                else:
                    return _taken(reply)
        raise NsedgeError("the process that reads pictures ended") from ended

    def close(self) -> None:
        """End it; another call would start it anew."""
        with self._lock:
            self._end()

    def _wait(self, child: _Child) -> None:
        """Until there is an answer, or no more comes."""
        seat = self._seat
        while seat is not None and not child.pipe.poll(0):
            if seat.slice_s() is None:
                child.signal(signal.SIGCONT)
                child.pipe.poll(LOOK_S)
            else:
                child.signal(signal.SIGSTOP)
                with seat:
                    child.signal(signal.SIGCONT)
                    # A poll takes whole milliseconds, rounded up.
                    child.pipe.poll(math.floor(1e3 * (seat.slice_s() or LOOK_S)) / 1e3)
                    child.signal(signal.SIGSTOP)
        child.signal(signal.SIGCONT)

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """The process, and the pipe to it."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        with theirs:
            # It finds modules where this process does, and not where it happens to stand (-P).
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        # One that ends by itself leaves nothing behind.
        threading.Thread(target=self._process.wait, name="picture-process", daemon=True).start()

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)

    def end(self) -> None:
        """End it, wherever it stands."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()


def use(process: PictureProcess) -> None:
    """Have pictures that the calling thread reads read there."""
    _here.process = process


def module(name: str) -> Any:
    """A module of this room, imported with the first picture; what `preparing` is asked for is done
    in the thread's process, if it has one."""
    process: PictureProcess | None = getattr(_here, "process", None)
    if process is not None and name == APART:
        return _Apart(process)
    return importlib.import_module(f"nsedge.runtime.vision.{name}")


class _Apart:
    """`preparing` as it is there, for pictures that come as bytes."""

    def __init__(self, process: PictureProcess) -> None:
        self._process = process

    def __getattr__(self, function: str) -> Any:
        return functools.partial(self._call, function)

    def _call(self, function: str, media: Media, *args: Any, **options: Any) -> Any:
        if type(media) is Media:
            return self._process.call(function, media, *args, **options)
        here = importlib.import_module(f"nsedge.runtime.vision.{APART}")
        return getattr(here, function)(media, *args, **options)


def _taken(reply: Reply) -> Any:
    value, code, message = reply
    if code is not None:
        raise of_code(code)(message)
    if message:
        raise RuntimeError(message)
    return value
