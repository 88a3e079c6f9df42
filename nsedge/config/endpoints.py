"""Where a daemon listens: ipc:// paths and tcp:// ports."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from nsedge.errors import ConfigInvalid

CONTROL_SUFFIX = ".control"
CONTROL_PORT_OFFSET = 1
MAX_PATH_BYTES = 107
"""The length of a path in `sockaddr_un` on Linux, less the terminating zero."""


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
