"""One connection of a client, from hello to loss. It never reconnects: its owner opens another."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import NoReturn

import zmq
from zmq.utils.monitor import parse_monitor_message

from nsedge.config.endpoints import Endpoint, TcpEndpoint
from nsedge.errors import BadMessage, ConnectionLost, Forbidden, NsedgeError, OutOfOrder
from nsedge.ipc import events, protocol
from nsedge.ipc import messages as wire
from nsedge.ipc.curve import ClientCurve
from nsedge.ipc.loopsocket import Frames, LoopSocket

log = logging.getLogger(__name__)

LINGER_MS = 100
"""The time that a closing client gives its last messages to leave."""
MAX_UNSENT_MESSAGES = 16384
MAX_FRAMES = 2**20

REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH

Answer = wire.EventMessage | wire.Credit | wire.MediaReady | wire.Reply
"""The messages that a client hears once its session is open."""
OnMessage = Callable[[Answer, int], None]
"""Takes a message and the length of its payload frame in bytes."""
OnLost = Callable[[NsedgeError], None]


class Connection:
    """Two DEALER sockets and a heartbeat. `on_lost` is called at most once, after the welcome."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        on_message: OnMessage,
        on_lost: OnLost,
        curve: ClientCurve | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._curve = curve if isinstance(endpoint, TcpEndpoint) else None
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[wire.Welcome] = self._loop.create_future()
        self._unanswered = 0
        self._beat: asyncio.TimerHandle | None = None
        self._closed = False
        data = self._dealer(context, endpoint)
        monitor = data.get_monitor_socket(zmq.EVENT_DISCONNECTED | REFUSED)
        data.connect(str(endpoint))
        control = self._dealer(context, endpoint)
        control.connect(str(endpoint.control()))
        self._data = LoopSocket(data, self._hear)
        self._control = LoopSocket(control, self._hear)
        self._monitor = LoopSocket(monitor, self._hung_up)

    async def open(self, *, client: str, timeout_s: float) -> wire.Welcome:
        """Say hello and wait for the welcome.

        Raises:
            ConnectionLost: nobody answered in time; the message says what to do.
            UnsupportedVersion: the daemon speaks another version.
            Unavailable: the daemon has as many clients as it takes.
            Forbidden: it does not let our CURVE key in.
        """
        self.send(wire.Hello(protocol=protocol.VERSION, client=client))
        try:
            welcome = await asyncio.wait_for(self._welcome, timeout_s)
        except TimeoutError:
            remedy = "start one with `nsedge serve`, or give the endpoint of one that runs"
            raise ConnectionLost(
                f"no daemon answered at {self._endpoint} within {timeout_s:g} s: {remedy}"
            ) from None
        self._heartbeat_s = welcome.heartbeat_s
        self._patience = max(2, math.ceil(welcome.liveness_s / welcome.heartbeat_s))
        self._ping = protocol.encode(wire.Ping(session=welcome.session))
        self._beat = self._loop.call_later(self._heartbeat_s, self._heartbeat)
        return welcome

    def send(self, *messages: wire.ClientMessage) -> None:
        """Send on the data socket; a connection that takes no more counts as lost."""
        self.send_frames(*map(protocol.encode, messages))

    def send_frames(self, *payloads: bytes) -> None:
        """As `send`, for payloads that are encoded already."""
        self._put(self._data, *payloads)

    def send_control(self, *messages: wire.ClientMessage) -> None:
        """Send on the control socket."""
        self._put(self._control, *map(protocol.encode, messages))

    def close(self) -> None:
        """Close the sockets; what is queued has a moment to leave. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._beat is not None:
            self._beat.cancel()
        self._welcome.cancel()
        for socket in (self._monitor, self._data, self._control):
            socket.close(linger_ms=LINGER_MS)

    def _dealer(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.DEALER)
        socket.SNDHWM = MAX_UNSENT_MESSAGES
        socket.RCVHWM = 0
        socket.IPV6 = isinstance(endpoint, TcpEndpoint) and endpoint.is_ipv6
        if self._curve is not None:
            self._curve.apply(socket)
        return socket

    def _put(self, socket: LoopSocket, *payloads: bytes) -> None:
        if self._closed:
            return
        try:
            socket.send([protocol.MAGIC, *payloads])
        except zmq.Again:
            self._lose_soon(ConnectionLost(f"the daemon at {self._endpoint} reads nothing"))

    def _hear(self, frames: Frames) -> None:
        self._unanswered = 0
        try:
            payloads = protocol.open_envelope(frames, max_frames=MAX_FRAMES, max_bytes=2**62)
            for frame in payloads:
                message = protocol.decode_server(frame)
                self._take(message, len(frame))
        except NsedgeError as error:
            self._lose(error)

    def _take(self, message: wire.ServerMessage, size: int) -> None:
        if isinstance(message, wire.Failed) and message.id is None:
            self._give_up(message)
        if isinstance(message, wire.Welcome):
            if not self._welcome.done():
                self._welcome.set_result(message)
        elif not isinstance(message, wire.Pong):
            self._on_message(message, size)

    def _give_up(self, message: wire.Failed) -> NoReturn:
        error = events.error_of(message)
        if isinstance(error, OutOfOrder | BadMessage):
            raise ConnectionLost(f"the daemon at {self._endpoint} ended the session: {error}")
        raise error

    def _hung_up(self, event: Frames) -> None:
        if parse_monitor_message(event)["event"] == REFUSED:
            self._lose(Forbidden(f"the daemon at {self._endpoint} does not let this CURVE key in"))
            return
        while self._data.read_one():
            pass
        told = f"the daemon at {self._endpoint} closed the connection"
        if isinstance(self._endpoint, TcpEndpoint) and not self._welcome.done():
            told += " unheard: do both sides use CURVE, and is its key the one we know?"
        self._lose(ConnectionLost(told))

    def _heartbeat(self) -> None:
        if self._unanswered >= self._patience:
            silence_s = self._unanswered * self._heartbeat_s
            self._lose(
                ConnectionLost(f"the daemon at {self._endpoint} was silent for {silence_s:g} s")
            )
            return
        self._unanswered += 1
        self._beat = self._loop.call_later(self._heartbeat_s, self._heartbeat)
        self._put(self._control, self._ping)

    def _lose_soon(self, error: NsedgeError) -> None:
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: NsedgeError) -> None:
        if self._closed:
            return
        if not self._welcome.done():
            self._welcome.set_exception(error)
            return
        self.close()
        self._on_lost(error)
