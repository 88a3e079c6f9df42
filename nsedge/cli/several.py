"""Files that are asked about at the same time, and shown in their order."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nsedge.cli.exits import ExitStatus
from nsedge.errors import InvalidParameter, NsedgeError, UnknownModel
from nsedge.ipc.client import Client
from nsedge.ipc.sync import Events
from nsedge.process import console

STDIN = "-"
AT_ONCE = 8
"""Files that the daemon has at once."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A file, and its request."""

    name: str
    events: Events


def asked(
    names: Iterable[str], ask: Callable[[str, bytes], Events]
) -> Iterator[Asked | NsedgeError]:
    """A request for each file, once it is taken; what is wrong with it where it cannot be asked
    about."""
    for name in names:
        try:
            yield Asked(name=name, events=ask(name, _content(name)))
        except NsedgeError as error:
            yield error


def show_each(
    coming: Iterator[Asked | NsedgeError], show: Callable[[Asked], None], *, several: bool
) -> int:
    """Have each shown in its order; 1 where one of several failed. `show` raises what a file failed
    with, and so does this where there is one alone."""
    status = ExitStatus.OK
    waiting: deque[Asked | NsedgeError] = deque()
    with contextlib.ExitStack() as left_early:
        while True:
            while len(waiting) < AT_ONCE and (one := next(coming, None)) is not None:
                if isinstance(one, Asked):
                    left_early.enter_context(one.events)
                waiting.append(one)
            if not waiting:
                return status
            try:
                first = waiting.popleft()
                if isinstance(first, NsedgeError):
                    raise first
                show(first)
            except NsedgeError as error:
                if not several:
                    raise
                console.note(f"nsedge: {error.message}")
                status = ExitStatus.FAILURE


def default_model(client: Client, configured: str, *, task: str, missing: str) -> str:
    """The model that is meant where none is named: the configured one, or the first that does
    `task`.

    Raises:
        UnknownModel: saying what is `missing`.
    """
    if configured:
        return configured
    for model in client.models():
        if task in model.tasks:
            return model.name
    raise UnknownModel(missing)


def _content(name: str) -> bytes:
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise NsedgeError(f"{name}: {error.strerror}") from error
    if not data:
        raise InvalidParameter(f"{name} is empty")
    return data
