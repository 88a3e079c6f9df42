"""Who sent a message, as libzmq tells it: the kernel's word over ipc, a proven key over CURVE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import zmq

from nsedge.errors import Forbidden
from nsedge.security.keyring import ANONYMOUS, EVERY_SCOPE, Caller, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The other end of a connection.

    - address: its IP address; for ipc, uid:gid:pid (SO_PEERCRED) as of its connecting.
    - user: its name, where it came in by CURVE.
    """

    address: str
    user: str | None
    is_local: bool

    @classmethod
    def of(cls, frame: zmq.Frame) -> Self:
        """Where the message that `frame` is of came from."""
        address = _property(frame, "Peer-Address") or ""
        credentials = address.split(":")[1:]  # "localhost:UID:GID:PID"
        local = len(credentials) == 3 and all(one.isdigit() for one in credentials)
        return cls(
            address=":".join(credentials) if local else address,
            user=_property(frame, "User-Id") or None,
            is_local=local,
        )

    def caller(self, clients: KeyRing | None) -> Caller:
        """Who that is, by the CURVE clients let in now. The file's mode has let local ones in.

        Raises:
            Forbidden: a client that was let in once, and has been taken off the list.
        """
        if self.is_local:
            return Caller(name=f"uid {self.address.partition(':')[0]}", scopes=EVERY_SCOPE)
        if clients is None:
            return ANONYMOUS
        for client in clients.curve:
            if client.name == self.user:
                return client.caller
        raise Forbidden(f"the key of {self.user!r} is no longer let in")

    def __str__(self) -> str:
        if self.is_local:
            return "uid {}, gid {}, pid {}".format(*self.address.split(":"))
        return self.address if self.user is None else f"{self.user} at {self.address}"


def _property(frame: zmq.Frame, name: str) -> str | None:
    """A property of the message's connection; None where it has none of that name."""
    try:
        found = frame.get(name)
    except zmq.ZMQError:
        return None
    return found if isinstance(found, str) else None
