"""How the program ends: exit statuses, and errors told in one line instead of a traceback."""

from __future__ import annotations

import enum
from collections.abc import Callable

from nsedge.cli import output, starting
from nsedge.errors import ConfigInvalid, EmptyPrompt, InvalidParameter, NsedgeError, Unavailable
from nsedge.process import console


class ExitStatus(enum.IntEnum):
    """Exit statuses."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    """A flag, a setting or a parameter that cannot be."""
    UNAVAILABLE = 69
    """The daemon is not there, not ready, draining or full: sysexits' EX_UNAVAILABLE."""
    INTERRUPTED = starting.INTERRUPTED
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
        console.write("")
    except NsedgeError as error:
        status = _told(error, as_json=as_json)
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    except BrokenPipeError:
        status = ExitStatus.CLOSED_OUTPUT
    except (console.OutputLost, OSError, UnicodeError) as error:
        # Standard output on a full disk, a directory that may not be read, a path that the locale
        # cannot name.
        console.note(f"nsedge: {console.reason(error)}")
        status = ExitStatus.FAILURE
    console.settle()
    return status


def _told(error: NsedgeError, *, as_json: bool) -> int:
    status = status_of(type(error))

    def say() -> int:
        told = {"code": error.code, "message": error.message, "retryable": error.retryable}
        output.say_json({"error": told})
        return status

    if as_json:
        return guarded(say, as_json=False)
    console.note(f"nsedge: {error.message}")
    return status
