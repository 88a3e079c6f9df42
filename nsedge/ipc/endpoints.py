"""Where a daemon listens: ipc:// paths and tcp:// ports, and the care for socket files."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nsedge.errors import ConfigInvalid

CONTROL_SUFFIX = ".control"
CONTROL_PORT_OFFSET = 1
MAX_PATH_BYTES = 107
"""What `sockaddr_un` holds on Linux, less the terminating zero."""


@dataclass(frozen=True, slots=True)
class IpcEndpoint:
    """A socket file."""

    path: Path

    def __str__(self) -> str:
        return f"ipc://{self.path}"

    def control(self) -> IpcEndpoint:
        """Where the control socket of this data socket lies."""
        return IpcEndpoint(Path(f"{self.path}{CONTROL_SUFFIX}"))


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """An address and a port; `host` is without the brackets of IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if self.is_ipv6 else self._plain()

    def _plain(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 literal."""
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. A name other than localhost counts as remote."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def control(self) -> TcpEndpoint:
        """Where the control socket of this data socket lies."""
        return TcpEndpoint(self.host, self.port + CONTROL_PORT_OFFSET)


Endpoint = IpcEndpoint | TcpEndpoint


def parse(text: str) -> Endpoint:
    """An endpoint from `ipc:///path` or `tcp://host:port`.

    Raises:
        ConfigInvalid: anything else, a path too long for a socket, or a port without a successor.
    """
    scheme, found, rest = text.partition("://")
    if found and scheme == "ipc":
        return _parse_ipc(text, rest)
    if found and scheme == "tcp":
        return _parse_tcp(text, rest)
    raise ConfigInvalid(
        f"endpoint {text!r} is neither ipc:///path nor tcp://host:port", param="endpoint"
    )


def _parse_ipc(text: str, rest: str) -> IpcEndpoint:
    path = Path(rest)
    if not path.is_absolute():
        raise ConfigInvalid(f"endpoint {text!r} needs an absolute path", param="endpoint")
    length = len(os.fsencode(f"{path}{CONTROL_SUFFIX}"))
    if length > MAX_PATH_BYTES:
        raise ConfigInvalid(
            f"endpoint {text!r}: its control path has {length} bytes, a socket path at most "
            f"{MAX_PATH_BYTES}",
            param="endpoint",
        )
    return IpcEndpoint(path)


def _parse_tcp(text: str, rest: str) -> TcpEndpoint:
    host, _, port = rest.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65534:
        raise ConfigInvalid(
            f"endpoint {text!r} needs a host and a port from 1 to 65534 (the next one up is the "
            "control socket's)",
            param="endpoint",
        )
    return TcpEndpoint(host.removeprefix("[").removesuffix("]"), int(port))


def refuse_remote(endpoint: Endpoint) -> None:
    """Raises ConfigInvalid for an endpoint that other machines reach."""
    if isinstance(endpoint, TcpEndpoint) and not endpoint.is_loopback:
        raise ConfigInvalid(
            f"{endpoint} is reachable from other machines, and nothing there is encrypted: "
            "use CURVE, bind 127.0.0.1, or allow clear text explicitly",
            param="endpoint",
        )


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
            raise ConfigInvalid(f"cannot listen at {path}: {error}", param="endpoint") from error
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
            raise ConfigInvalid(f"cannot listen at {path}: {error}", param="endpoint") from error
    raise _occupied(path)


def _occupied(path: Path) -> ConfigInvalid:
    return ConfigInvalid(
        f"another daemon listens at {path}: stop it, or choose another endpoint", param="endpoint"
    )
