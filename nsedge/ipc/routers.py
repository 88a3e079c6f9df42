"""The two ROUTER sockets of a server: binding, sending, and what is left when they close."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from nsedge.config import endpoints as places
from nsedge.errors import ConfigInvalid, NsedgeError
from nsedge.ipc.access import Access
from nsedge.ipc.ceiling import Ceiling
from nsedge.ipc.limits import Limits
from nsedge.ipc.loopsocket import Frames, LoopSocket, RouterSocket
from nsedge.ipc.origin import Origin
from nsedge.ipc.protocol import MAGIC
from nsedge.ipc.socket_files import SocketFile
from nsedge.ipc.zap import Doorkeeper
from nsedge.security.keyring import Caller

LINGER_MS = 200
"""The time that a stopping server gives its last messages to leave."""
HARD_LIMIT = 4
"""ZeroMQ disconnects who sends a frame this many times beyond the limit; up to it, we answer."""

_OWN_SOCKET = -1
"""ZMQ_USE_FD's value for opening one's own."""
HANDSHAKE_MS = 5000
"""The time that a connection has to prove who it is, before it is closed."""

Receive = Callable[[Frames], None]


class Routers:
    """A data and a control socket, each bound to every endpoint.

    `inherited` are listening sockets that somebody else opened, and owns: data and control of an
    endpoint, or neither.

    Raises:
        ConfigInvalid: an endpoint is malformed, given twice, or remote without leave; or there is
            none; or a socket was inherited that none listens at.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        limits: Limits,
        access: Access,
        inherited: Mapping[places.Endpoint, int] | None = None,
    ) -> None:
        self._places = [places.parse(endpoint) for endpoint in endpoints]
        taken = [*self._places, *(place.control() for place in self._places)]
        if not endpoints or len(set(taken)) != len(taken):
            raise ConfigInvalid(
                "endpoints must be at least one, and leave each its control socket's path or port",
                param="endpoint",
            )
        if access.curve is None and not access.allow_cleartext:
            for place in self._places:
                places.refuse_remote(place)
        self._inherited = dict(inherited or {})
        _check_inherited(self._inherited, self._places)
        self._limits = limits
        self._access = access
        self._sender: zmq.Frame | None = None
        self._doorkeeper: Doorkeeper | None = None
        self._files: list[SocketFile] = []
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._data: LoopSocket | None = None
        self._control: LoopSocket | None = None
        self._monitors: list[LoopSocket] = []
        self.ceiling = Ceiling()

    async def open(
        self, on_data: Receive, on_control: Receive, on_hang_up: Callable[[], None]
    ) -> None:
        """Bind. `on_hang_up` is called when any connection of the data socket ends.

        Raises:
            ConfigInvalid: an endpoint is in use or cannot be bound; nothing stays bound then.
        """
        self._context = zmq.Context()
        data, control = self._router(self._context), self._router(self._context)
        try:
            if self._access.curve is not None:
                self._doorkeeper = Doorkeeper(self._context, self._access.curve.clients)
            self._bind_all(data, control)
        except BaseException:
            data.close(linger=0)
            control.close(linger=0)
            await self.close()
            raise
        self._monitors = [
            self._watch(data, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED, on_hang_up),
            self._watch(control, zmq.EVENT_ACCEPTED),
        ]
        self._data = RouterSocket(data, on_data, on_sender=self._remember)
        self._control = RouterSocket(control, on_control, on_sender=self._remember)

    async def close(self) -> None:
        """Close, and remove the socket files. Idempotent."""
        for socket in (self._control, self._data, *self._monitors):
            if socket is not None:
                socket.close(linger_ms=LINGER_MS)
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        if self._context is not None:
            await asyncio.to_thread(self._context.term)
            self._context = None
        while self._files:
            self._files.pop().release()

    def send_data(self, peer: bytes, payloads: Sequence[bytes]) -> bool:
        """Send to a client; False if it is gone, or reads so little that its queue is full."""
        return _send(self._data, peer, payloads)

    def send_control(self, peer: bytes, payloads: Sequence[bytes]) -> bool:
        """As `send_data`, on the control socket."""
        return _send(self._control, peer, payloads)

    def origin(self) -> Origin:
        """Where the message that is being heard came from."""
        if self._sender is None:
            raise NsedgeError("no message is being heard")
        return Origin.of(self._sender)

    def caller(self) -> Caller:
        """Who sent the message that is being heard.

        Raises:
            Forbidden: a client that has been taken off the list since it connected.
        """
        curve = self._access.curve
        return self.origin().caller(None if curve is None else curve.clients.value())

    def _watch(
        self,
        socket: zmq.Socket[bytes],
        events: int,
        on_hang_up: Callable[[], None] = lambda: None,
    ) -> LoopSocket:
        def hear(frames: Frames) -> None:
            told = parse_monitor_message(frames)
            if told["event"] == zmq.EVENT_ACCEPTED:
                self.ceiling.accepted(told["value"])
            elif told["event"] == zmq.EVENT_DISCONNECTED:
                on_hang_up()

        return LoopSocket(socket.get_monitor_socket(events), hear)

    def _remember(self, sender: zmq.Frame) -> None:
        self._sender = sender

    def _bind_all(self, data: zmq.Socket[bytes], control: zmq.Socket[bytes]) -> None:
        """ipc before tcp: what a socket is told of CURVE holds for what it binds afterwards."""
        for place in sorted(self._places, key=lambda one: isinstance(one, places.TcpEndpoint)):
            if isinstance(place, places.IpcEndpoint):
                if place not in self._inherited:
                    permit = self._access.permit
                    self._files.append(SocketFile.claim(place.path, permit=permit))
            elif self._access.curve is not None:
                self._access.curve.apply(data)
                self._access.curve.apply(control)
            self._bind(data, place)
            self._bind(control, place.control())

    def _router(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.ROUTER)
        socket.ROUTER_MANDATORY = 1
        socket.SNDHWM = self._limits.max_unsent_messages
        socket.RCVHWM = 1024
        socket.HANDSHAKE_IVL = HANDSHAKE_MS
        socket.MAXMSGSIZE = HARD_LIMIT * self._limits.max_message_bytes
        socket.IPV6 = any(
            isinstance(place, places.TcpEndpoint) and place.is_ipv6 for place in self._places
        )
        return socket

    def _bind(self, socket: zmq.Socket[bytes], place: places.Endpoint) -> None:
        given = self._inherited.get(place)
        try:
            if given is not None:
                # ZeroMQ closes its copy at the end, and leaves the file alone.
                socket.setsockopt(zmq.USE_FD, os.dup(given))
                socket.bind(str(place))
                socket.setsockopt(zmq.USE_FD, _OWN_SOCKET)
                return
            with _umask(0o177):
                socket.bind(str(place))
            if isinstance(place, places.IpcEndpoint):
                self._access.permit.apply(place.path)
        except zmq.ZMQError as error:
            remedy = ": stop what listens there, or choose another endpoint"
            raise ConfigInvalid(
                f"cannot bind {place}: {error.strerror}"
                f"{remedy if error.errno == errno.EADDRINUSE else ''}",
                param="endpoint",
            ) from error


def _check_inherited(
    inherited: Mapping[places.Endpoint, int], wanted: Sequence[places.Endpoint]
) -> None:
    """ZeroMQ would take any descriptor for any endpoint."""
    for place in inherited:
        if place not in wanted and place not in [each.control() for each in wanted]:
            raise ConfigInvalid(
                f"a socket was passed that listens at {place}, which is none of the endpoints"
                f" {', '.join(map(str, wanted))} or their control sockets",
                param="endpoint",
            )
    for place in wanted:
        if (place in inherited) != (place.control() in inherited):
            raise ConfigInvalid(
                f"of {place} and {place.control()} only one socket was passed", param="endpoint"
            )


def _send(socket: LoopSocket | None, peer: bytes, payloads: Sequence[bytes]) -> bool:
    if socket is None:
        return False
    try:
        socket.send([peer, MAGIC, *payloads])
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != errno.EHOSTUNREACH:
            raise
        return False
    return True


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
