"""Reaching the running core."""

from __future__ import annotations

from pathlib import Path

from nsedge.config import endpoints
from nsedge.config.settings import Settings
from nsedge.errors import ConnectionLost
from nsedge.ipc.client import Client
from nsedge.ipc.curve import ClientCurve, KeyPair, check_key

ANSWER_S = 5.0


def to_core(settings: Settings, *, timeout_s: float = ANSWER_S, name: str = "nsedge-cli") -> Client:
    """A client of the configured core; a socket file that is not there is told without a wait.

    Raises:
        ConnectionLost: nobody there, and what to do about it.
    """
    endpoint = endpoints.parse(settings.core.endpoint)
    if isinstance(endpoint, endpoints.IpcEndpoint) and not endpoint.path.is_socket():
        raise ConnectionLost(f"no daemon at {endpoint}: start one with `nsedge up`")
    return Client(str(endpoint), connect_timeout_s=timeout_s, name=name, curve=curve(settings))


def curve(settings: Settings) -> ClientCurve | None:
    """The keys for a core over TCP; None where none are set.

    Raises:
        ConfigInvalid: where they cannot be read.
    """
    said = settings.client
    if not said.curve_secret:
        return None
    pair = KeyPair.read(Path(said.curve_secret))
    return ClientCurve(pair=pair, server_key=check_key(said.server_key))
