"""Who may open a CURVE connection: ZeroMQ's authentication protocol (ZAP, rfc.zeromq.org/spec/27).

libzmq asks once a connection, on an inproc socket of its own context, and waits for the answer
before a single frame passes. What is answered comes back with every message as its User-Id.
"""

from __future__ import annotations

import logging

import zmq
import zmq.utils.z85

from nsedge.ipc.loopsocket import Frames, LoopSocket
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile

log = logging.getLogger(__name__)

ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_CURVE = b"CURVE"
_HEAD = 8
"""Frames before the credentials: peer, delimiter, version, request, domain, address, routing id,
mechanism."""


class Doorkeeper:
    """Answers for one context, on the running loop: in come the CURVE clients of a key file."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], clients: WatchedFile[KeyRing]
    ) -> None:
        self._clients = clients
        socket = context.socket(zmq.ROUTER)
        socket.bind(ADDRESS)
        self._socket = LoopSocket(socket, self._hear)

    def close(self) -> None:
        """Answer nobody any more; connections that still ask are not let in."""
        self._socket.close()

    def _hear(self, frames: Frames) -> None:
        if len(frames) < _HEAD:
            log.error("an authentication request of %d frames is not understood", len(frames))
            return
        peer, _, _, request, _, address, _, mechanism, *credentials = frames
        name = self._name_of(mechanism, credentials)
        where = address.decode(errors="replace")
        if name is None:
            log.warning("a CURVE key that is not let in was refused", extra={"from": where})
            verdict = [b"400", b"this key is not let in", b""]
        else:
            log.info("a connection was let in", extra={"client": name, "from": where})
            verdict = [b"200", b"", name.encode()]
        self._socket.send([peer, b"", _VERSION, request, *verdict, b""])

    def _name_of(self, mechanism: bytes, credentials: Frames) -> str | None:
        if mechanism != _CURVE or len(credentials) != 1:
            return None
        self._clients.look()
        client = self._clients.value().find_curve(zmq.utils.z85.encode(credentials[0]).decode())
        return None if client is None else client.name
