"""The process that pictures are read in: `python -m nsedge.runtime.vision.child FD`.

It takes pickled calls of functions of `preparing` from the socket FD, and sends what comes of each,
until the other end is closed or nothing came for IDLE_S.
"""

from __future__ import annotations

import ctypes
import importlib
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from nsedge.errors import NsedgeError

IDLE_S = 60.0
PR_SET_PDEATHSIG = 1


Reply = tuple[Any, str | None, str]
"""What came of a call: its value, the code of an error, and its message; one without a code is of
what nobody foresaw."""


def serve(pipe: Connection) -> None:
    """Answer until nobody asks any more."""
    preparing = importlib.import_module("nsedge.runtime.vision.preparing")
    while pipe.poll(IDLE_S):
        try:
            asked = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(_reply(preparing, asked))


def _reply(preparing: Any, asked: bytes) -> Reply:
    try:
        function, args, options = pickle.loads(asked)
        return getattr(preparing, function)(*args, **options), None, ""
    except NsedgeError as error:
        return None, error.code, error.message
    except Exception as error:
        return None, None, f"{type(error).__name__}: {error}"


def end_with_parent() -> None:
    """Let the system end this process where its parent ends, even while it is stopped; Linux only.
    Elsewhere it ends when it next goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve the socket; signals to the whole group are for the parent, which closes it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    with Connection(int(sys.argv[1])) as pipe:
        serve(pipe)


if __name__ == "__main__":
    main()
