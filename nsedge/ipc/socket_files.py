"""Socket files: claimed, replaced where stale, never where a daemon runs, and their permissions."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nsedge.config.endpoints import CONTROL_SUFFIX
from nsedge.errors import ConfigInvalid
from nsedge.process import console


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Who may connect to a socket file: its owner, and at mode 0o660 its group too.

    Raises:
        ConfigInvalid: another mode, or a group where the mode lets none in.
    """

    mode: int = 0o600
    group: str = ""
    """Its name; empty is the process's own."""

    def __post_init__(self) -> None:
        if self.mode not in (0o600, 0o660):
            raise ConfigInvalid(
                f"socket_mode must be 0600 or 0660, not {self.mode:04o}", param="socket_mode"
            )
        if self.group and self.mode != 0o660:
            raise ConfigInvalid(
                f"socket_group {self.group!r} needs socket_mode 0660", param="socket_group"
            )

    def apply(self, path: Path) -> None:
        """Open a socket file, made private, to whom it is meant for.

        Raises:
            ConfigInvalid: no such group, or one that this process may not give it to.
        """
        self.give(path)
        path.chmod(self.mode)

    def give(self, path: Path) -> None:
        """Give `path` to the group. Raises as `apply` does."""
        if not self.group:
            return
        try:
            shutil.chown(path, group=self.group)
        except (LookupError, PermissionError) as error:
            raise ConfigInvalid(
                f"socket_group {self.group!r}: {path} cannot be given to it: {error}",
                param="socket_group",
            ) from error


class SocketFile:
    """Sole ownership of a socket path, by a lock on `PATH.lock`, for as long as it is held."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock

    @classmethod
    def claim(cls, path: Path, *, permit: Permit) -> Self:
        """Make the parent directory (private to the owner, and to the group that `permit` lets
        in), and clear away what a dead daemon left.

        Raises:
            ConfigInvalid: a live daemon is there, something else than a socket is, or the
                directory cannot be used.
        """
        try:
            _make_folder(path.parent, permit)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            _take_over(path, lock)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock)

    def release(self) -> None:
        """Remove the socket file and its control sibling, and let others have the path. The lock
        file stays: removing it would let two newcomers hold locks of the same name."""
        for path in (self._path, Path(f"{self._path}{CONTROL_SUFFIX}")):
            path.unlink(missing_ok=True)
        os.close(self._lock)


def _make_folder(path: Path, permit: Permit) -> None:
    """One that is there already is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if permit.mode & 0o070:
        permit.give(path)
        path.chmod(0o750)


def _take_over(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _occupied(path) from None
    for candidate in (path, Path(f"{path}{CONTROL_SUFFIX}")):
        _clear_stale(candidate)


def _clear_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigInvalid(f"{path} exists and is not a socket", param="endpoint")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise _unusable(path, error) from error
    raise _occupied(path)


def _unusable(path: Path, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(f"cannot listen at {path}: {console.reason(error)}", param="endpoint")


def _occupied(path: Path) -> ConfigInvalid:
    return ConfigInvalid(
        f"another daemon listens at {path}: stop it, or choose another endpoint", param="endpoint"
    )
