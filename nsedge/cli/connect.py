"""Reaching the running core."""

from __future__ import annotations

from nsedge.errors import ConnectionLost
from nsedge.ipc import endpoints
from nsedge.ipc.client import Client
from nsedge.settings import Settings

ANSWER_S = 5.0


def to_core(settings: Settings, *, timeout_s: float = ANSWER_S) -> Client:
    """A client of the configured core; a socket file that is not there is told without a wait.

    Raises:
        ConnectionLost: nobody there, and what to do about it.
    """
    endpoint = endpoints.parse(settings.core.endpoint)
    if isinstance(endpoint, endpoints.IpcEndpoint) and not endpoint.path.is_socket():
        raise ConnectionLost(f"no daemon at {endpoint}: start one with `nsedge up`")
    return Client(str(endpoint), connect_timeout_s=timeout_s, name="nsedge-cli")
