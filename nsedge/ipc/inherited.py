"""Listening sockets that a supervisor opened for this process, by where they listen."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from nsedge.config.endpoints import Endpoint, IpcEndpoint, TcpEndpoint
from nsedge.errors import ConfigInvalid


def by_endpoint(descriptors: Iterable[int]) -> dict[Endpoint, int]:
    """Where each of `descriptors` listens. They are made private to this process.

    Raises:
        ConfigInvalid: one is no listening stream socket of a path or an IP address.
    """
    return {_endpoint(descriptor): descriptor for descriptor in descriptors}


def _endpoint(descriptor: int) -> Endpoint:
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    try:
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            family, address = passed.family, passed.getsockname()
    except OSError as error:
        raise ConfigInvalid(f"descriptor {descriptor} is no socket: {error.strerror}") from error
    if listens and family == socket.AF_UNIX and isinstance(address, str) and address:
        return IpcEndpoint(Path(address))
    if listens and family in (socket.AF_INET, socket.AF_INET6):
        return TcpEndpoint(*address[:2])
    raise ConfigInvalid(f"descriptor {descriptor} does not listen at a path or a TCP port")
