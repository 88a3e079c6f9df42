"""A file that state is kept in over restarts: whole or not there, never half."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)


class StateFile(Generic[S]):
    """Reads and writes a state. Nothing that goes wrong here stops anything else."""

    def __init__(self, path: Path | None, *, kind: type[S], fresh: Callable[[], S], what: str):
        """None keeps nothing. `fresh` is the state before anything was kept, `what` its plural
        name in the log."""
        self._path = path
        self._kind = kind
        self._fresh = fresh
        self._what = what
        self.failure: str | None = None
        """Why the last write could not be done; None where it was, or there was none."""

    def read(self) -> S:
        """What was kept; a fresh state where there is none, or none that can be read. A file that
        is not one is put aside."""
        if self._path is None:
            return self._fresh()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=self._kind)
        except FileNotFoundError:
            return self._fresh()
        except OSError as error:
            log.warning("%s cannot be read: %s", self._what, error)
        except msgspec.DecodeError as error:
            aside = self._path.with_suffix(".broken")
            log.warning("%s are damaged and kept as %s: %s", self._what, aside, error)
            try:
                self._path.replace(aside)
            except OSError as failure:
                log.warning("they could not be put aside: %s", failure)
        return self._fresh()

    def write(self, content: bytes) -> str | None:
        """Replace the file by `content`; why that could not be done, or None. A failure is logged
        once."""
        if self._path is None:
            return None
        try:
            replace_file(self._path, content)
        except OSError as error:
            if self.failure is None:
                log.warning("%s are not being kept: %s", self._what, error)
            self.failure = error.strerror or str(error)
            return self.failure
        if self.failure is not None:
            log.info("%s are kept again", self._what)
        self.failure = None
        return None


def encode(state: msgspec.Struct) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(state), indent=1)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it, and let it take that place.

    Raises:
        OSError: what was at `path` is there still.
    """
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        _remove(part)
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s is left behind: %s", path, error)
