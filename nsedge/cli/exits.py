"""How the program ends: exit statuses, and errors told in one line instead of a traceback."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Callable

from nsedge.errors import ConfigInvalid, EmptyPrompt, InvalidParameter, NsedgeError, Unavailable


class ExitStatus(enum.IntEnum):
    """What the shell sees."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    """A flag, a setting or a parameter that cannot be."""
    UNAVAILABLE = 69
    """The daemon is not there, not ready, draining or full: sysexits' EX_UNAVAILABLE."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and SIGINT, as shells say it."""
    CLOSED_OUTPUT = 141
    """The reader of standard output went away: 128 and SIGPIPE."""


def status_of(error: type[NsedgeError]) -> ExitStatus:
    """The status for an error of this class."""
    if issubclass(error, ConfigInvalid | InvalidParameter | EmptyPrompt):
        return ExitStatus.USAGE
    if issubclass(error, Unavailable):
        return ExitStatus.UNAVAILABLE
    return ExitStatus.FAILURE


def guarded(command: Callable[[], int], *, as_json: bool) -> int:
    """Run `command`; whatever can be foreseen ends in one line and a status."""
    try:
        status = command()
        sys.stdout.flush()
    except NsedgeError as error:
        _tell(error, as_json=as_json)
        return status_of(type(error))
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return ExitStatus.CLOSED_OUTPUT
    except OSError as error:  # standard output on a full disk, a directory that may not be read
        _tell(NsedgeError(str(error)), as_json=False)
        _discard_output()
        return ExitStatus.FAILURE
    return status


def _tell(error: NsedgeError, *, as_json: bool) -> None:
    if not as_json:
        print(f"nsedge: {error.message}", file=sys.stderr)
        return
    told = {"code": error.code, "message": error.message, "retryable": error.retryable}
    try:
        print(json.dumps({"error": told}), flush=True)
    except BrokenPipeError:
        _discard_output()


def _discard_output() -> None:
    """Let the interpreter's last flush go nowhere instead of failing."""
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, sys.stdout.fileno())
    os.close(void)
