"""The file that usage is kept in over restarts: whole or not there, never half."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from nsedge.runtime.usage import History

log = logging.getLogger(__name__)


class UsageFile:
    """Reads and writes a `History`. Nothing that goes wrong here stops anything else."""

    def __init__(self, path: Path | None) -> None:
        """None keeps nothing."""
        self._path = path
        self._failing = False

    def read(self) -> History:
        """What was kept; an empty history where there is none, or none that can be read. A file
        that is not one is put aside."""
        if self._path is None:
            return History()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=History)
        except FileNotFoundError:
            return History()
        except OSError as error:
            log.warning("usage statistics cannot be read: %s", error)
        except msgspec.DecodeError as error:
            aside = self._path.with_suffix(".broken")
            log.warning("usage statistics are damaged and kept as %s: %s", aside, error)
            try:
                self._path.replace(aside)
            except OSError as failure:
                log.warning("they could not be put aside: %s", failure)
        return History()

    def write(self, content: bytes) -> bool:
        """Replace the file by `content`; whether it was done. A failure is logged once."""
        if self._path is None:
            return True
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            if not self._failing:
                log.warning("usage statistics are not being kept: %s", error)
            self._failing = True
            _remove(part)
            return False
        if self._failing:
            log.info("usage statistics are kept again")
        self._failing = False
        return True


def encode(history: History) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(history), indent=1)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s is left behind: %s", path, error)
