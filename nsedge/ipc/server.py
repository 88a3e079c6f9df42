"""The ZeroMQ door: two ROUTER sockets in front of a `Service`.

Data and control are apart, so that a cancel or a ping never queues behind text. Everything runs on
one event loop: the service calls the sinks there, and what a loop turn brings for a client leaves
as one message.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import msgspec

from nsedge.api import Event, Failed, Service, Sink
from nsedge.config.endpoints import CONTROL_PORT_OFFSET, CONTROL_SUFFIX, Endpoint
from nsedge.errors import Draining, NsedgeError, OutOfOrder, Unavailable
from nsedge.ipc import events, protocol, queries
from nsedge.ipc import messages as wire
from nsedge.ipc.access import Access
from nsedge.ipc.hearing import fed
from nsedge.ipc.limits import Limits
from nsedge.ipc.loopsocket import Frames
from nsedge.ipc.media import Hold
from nsedge.ipc.requests import check_readable, request_of
from nsedge.ipc.routers import Routers
from nsedge.ipc.session import Peer, Session, Sessions, Stream
from nsedge.ipc.unknown import check_fields
from nsedge.security.keyring import ANONYMOUS, Caller, Scope
from nsedge.version import VERSION

log = logging.getLogger(__name__)

PROBE_DELAY_S = 0.05
"""From the end of a connection to the look for sessions it took with it: long enough for ZeroMQ to
have forgotten its route."""

Send = Callable[[Peer, Sequence[bytes]], bool]

_OWN_SESSION = wire.Credit | wire.Cancel | wire.Ping | wire.Bye
"""Messages that only touch the sender's own session, and need no scope."""
_WANTS: dict[type, Scope] = {
    **dict.fromkeys(get_args(wire.Asking), Scope.INFER),
    wire.MediaPut: Scope.INFER,
    wire.Audio: Scope.INFER,
    wire.ModelsQuery: Scope.READ,
    wire.StatsQuery: Scope.READ,
    wire.HealthQuery: Scope.READ,
    wire.UsageQuery: Scope.READ,
    wire.Describe: Scope.READ,
    wire.ReadPrompt: Scope.INFER,
    wire.Detokenize: Scope.INFER,
}
"""The scope that a message wants; one that is not here wants `manage`."""

_PONG = protocol.encode(wire.Pong())


class Server:
    """Serves `service` at `endpoints` on the event loop that `start` is called on.

    - endpoints: `ipc:///path` and `tcp://host:port`, any number; the control socket of each lies at
      the path with `.control` appended, or at the next port.
    - access: who may reach them; by default the owner's processes, and whoever is on this machine
      for a tcp endpoint.
    - inherited: descriptors of sockets that a supervisor listens on, by where.
    - clock: monotonic, in seconds.

    Raises:
        ConfigInvalid: no endpoint, or one that is malformed or remote without leave.
    """

    def __init__(
        self,
        service: Service,
        *,
        endpoints: Sequence[str],
        limits: Limits | None = None,
        access: Access | None = None,
        inherited: Mapping[Endpoint, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._limits = limits or Limits()
        self._clock = clock
        self._routers = Routers(
            endpoints, limits=self._limits, access=access or Access(), inherited=inherited
        )
        self._sessions = Sessions(self._limits)
        self._queries: set[asyncio.Task[None]] = set()
        self._control_queries = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._probing: asyncio.TimerHandle | None = None
        self._stopping = False

    async def start(self) -> None:
        """Bind, and begin to serve.

        Raises:
            ConfigInvalid: an endpoint is in use or cannot be bound; nothing stays bound then.
        """
        self._loop = asyncio.get_running_loop()
        await self._routers.open(self._on_data, self._on_control, self._on_hang_up)
        self._sweeping = self._loop.call_later(self._limits.sweep_s, self._sweep)

    async def stop(self) -> None:
        """Tell every live request that the daemon is stopping, and close. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        for timer in (self._sweeping, self._probing):
            if timer is not None:
                timer.cancel()
        failure = Failed.of(None, Draining("the daemon is stopping"))
        for session in self._sessions:
            session.end_all(failure)
            self._flush(session)
            self._sessions.close(session)
        for task in self._queries:
            task.cancel()
        await asyncio.gather(*self._queries, return_exceptions=True)
        await self._routers.close()

    # What comes in.

    def _on_data(self, frames: Frames) -> None:
        peer, *rest = frames
        session = self._sessions.of_peer(peer)
        if session is not None:
            session.last_seen_s = self._clock()
        for frame in self._payloads(peer, rest, self._routers.send_data):
            self._attempt(peer, frame, self._hear_data, self._routers.send_data)

    def _on_control(self, frames: Frames) -> None:
        peer, *rest = frames
        for frame in self._payloads(peer, rest, self._routers.send_control):
            self._attempt(peer, frame, self._hear_control, self._routers.send_control)

    def _payloads(self, peer: Peer, frames: Frames, send: Send) -> Sequence[bytes]:
        limits = self._limits
        try:
            return protocol.open_envelope(
                frames, max_frames=limits.max_frames, max_bytes=limits.max_message_bytes
            )
        except NsedgeError as error:
            label = protocol.readable_id(frames[1]) if len(frames) == 2 else None
            self._refuse(peer, label, error, send)
            return ()

    def _attempt(
        self, peer: Peer, frame: bytes, hear: Callable[[Peer, bytes], None], send: Send
    ) -> None:
        if self._stopping:
            return
        try:
            hear(peer, frame)
        except NsedgeError as error:
            label = None if error.param == "id" else self._label(peer, frame)
            self._refuse(peer, label, error, send)
        except Exception:
            log.exception("a client's message could not be served")
            self._refuse(peer, protocol.readable_id(frame), _internal(), send)

    def _label(self, peer: Peer, frame: bytes) -> str | None:
        """The `id` of a message that cannot be served, but for one that a live request has."""
        label, session = protocol.readable_id(frame), self._sessions.of_peer(peer)
        return None if session is not None and label in session.streams else label

    def _refuse(self, peer: Peer, label: str | None, error: NsedgeError, send: Send) -> None:
        send(peer, [protocol.encode(events.failed_of(label, error))])

    def _hear_data(self, peer: Peer, frame: bytes) -> None:
        message, payload = protocol.decode_data_whole(frame)
        if isinstance(message, wire.Hello):
            self._welcome(peer, message)
            return
        session = self._sessions.of_peer(peer)
        if session is None:
            raise OutOfOrder("the session is not open: say hello first")
        caller = self._require_scope(message)
        match message:
            case wire.Credit():
                session.grant(message.id, message.bytes)
                self._flush_soon(session)
            case wire.Asked():
                check_fields(payload, type(message), minor=session.minor)
                self._submit(session, message, _owner(caller, session))
            case wire.Audio():
                session.hear(message)
                self._flush_soon(session)
            case wire.MediaPut():
                session.put(message, owner=_owner(caller, session), now_s=self._clock())
                self._flush_soon(session)
            case wire.Cancel():
                self._cancel(message)
            case wire.Bye():
                self._sessions.close(session)
            case _:
                check_fields(payload, type(message), minor=session.minor)
                self._ask_for(session, message)

    def _hear_control(self, peer: Peer, frame: bytes) -> None:
        message = protocol.decode_control(frame)
        self._require_scope(message)
        match message:
            case wire.Ping():
                self._session_of(message.session)
                self._routers.send_control(peer, [_PONG])
            case wire.Cancel():
                self._cancel(message)
            case wire.HealthQuery():
                self._ask_on_control(peer, message)

    def _require_scope(self, message: object) -> Caller:
        """Who sent the message. Raises Forbidden where it is not open to them."""
        if isinstance(message, _OWN_SESSION):
            return ANONYMOUS
        caller = self._routers.caller()
        caller.require(_WANTS.get(type(message), Scope.MANAGE))
        return caller

    def _session_of(self, key: bytes) -> Session:
        session = self._sessions.of_key(key)
        if session is None:
            raise OutOfOrder("there is no such session: say hello anew", param="session")
        session.last_seen_s = self._clock()
        return session

    # Sessions.

    def _welcome(self, peer: Peer, hello: wire.Hello) -> None:
        protocol.check_version(hello.protocol)
        before = self._sessions.of_peer(peer)
        if before is not None:
            self._sessions.close(before)
        session = self._sessions.open(peer, self._clock(), minor=protocol.minor_of(hello.protocol))
        origin = str(self._routers.origin())
        log.info("a session opens for %r", hello.client, extra={"from": origin})
        limits = self._limits
        welcome = wire.Welcome(
            protocol=protocol.VERSION,
            server=VERSION,
            session=session.key,
            heartbeat_s=limits.heartbeat_s,
            liveness_s=limits.liveness_s,
            max_message_bytes=limits.max_message_bytes,
            initial_credit_bytes=limits.initial_credit_bytes,
            max_credit_bytes=limits.max_credit_bytes,
            control_suffix=CONTROL_SUFFIX,
            control_port_offset=CONTROL_PORT_OFFSET,
            max_media_bytes=limits.max_media_bytes,
            media_credit_bytes=limits.media_credit_bytes if limits.max_media_bytes else 0,
            audio_credit_bytes=limits.audio_credit_bytes,
        )
        if not self._routers.send_data(peer, [protocol.encode(welcome)]):
            self._sessions.close(session)

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(self._limits.sweep_s, self._sweep)
        now_s = self._clock()
        for session in self._sessions.silent(now_s):
            log.info("a client was silent for %g s; its session ends", self._limits.liveness_s)
            self._sessions.close(session)
        for session in self._sessions:
            session.end_stalled(now_s)
            self._flush_soon(session)

    def _on_hang_up(self) -> None:
        if self._probing is None and not self._stopping:
            self._probing = self._loop.call_later(PROBE_DELAY_S, self._probe)

    def _probe(self) -> None:
        """Drop the sessions that can no longer be reached, by sending each what it ignores."""
        self._probing = None
        for session in self._sessions:
            if not self._routers.send_data(session.peer, [_PONG]):
                self._sessions.close(session)

    # Requests.

    def _submit(self, session: Session, message: wire.Asking, owner: str) -> None:
        check_readable(message, session.minor)
        stream = session.open(message.id, message.credit)
        sink: Sink = functools.partial(self._offer, session, stream)
        hold = Hold(self._sessions.media, owner=owner, most_bytes=self._limits.max_media_bytes)
        try:
            request = fed(
                request_of(message, hold.media),
                session,
                stream,
                soon=self._loop.call_soon_threadsafe,
                flush=functools.partial(self._flush_soon, session),
            )
            sink = hold.until_end(sink)
            stream.ticket = self._service.submit(request, sink)
        except NsedgeError as error:
            hold.release()
            sink(Failed.of(message.id, error))
            return
        except Exception:
            log.exception("the service could not take a request")
            hold.release()
            sink(Failed.of(message.id, _internal()))
            return
        if stream.cancelled:
            stream.ticket.cancel()

    def _offer(self, session: Session, stream: Stream, event: Event) -> None:
        session.offer(stream, event)
        self._flush_soon(session)

    def _cancel(self, message: wire.Cancel) -> None:
        session = self._session_of(message.session)
        session.cancel(message.id)
        self._flush_soon(session)

    def _flush_soon(self, session: Session) -> None:
        if not session.flushing and (session.outbox or session.taken):
            session.flushing = True
            self._loop.call_soon(self._flush, session)

    def _flush(self, session: Session) -> None:
        session.flushing = False
        frames, taken = session.outbox, session.taken
        session.outbox, session.taken = [], []
        if frames and not self._routers.send_data(session.peer, frames):
            self._sessions.close(session)
            return
        for stream, event in taken:
            if stream.ticket is not None:
                stream.ticket.took(event)

    # Queries.

    def _ask_for(self, session: Session, query: wire.Query) -> None:
        if session.queries >= self._limits.max_queries:
            raise Unavailable(f"{session.queries} queries are unanswered, the most allowed")
        session.queries += 1

        def done(_: asyncio.Task[None]) -> None:
            session.queries -= 1

        self._answer_soon(
            session.peer, query, self._routers.send_data, minor=session.minor
        ).add_done_callback(done)

    def _ask_on_control(self, peer: Peer, query: wire.Query) -> None:
        if self._control_queries >= self._limits.max_queries:
            raise Unavailable(f"{self._control_queries} queries are unanswered, the most allowed")
        self._control_queries += 1

        def done(_: asyncio.Task[None]) -> None:
            self._control_queries -= 1

        self._answer_soon(peer, query, self._routers.send_control).add_done_callback(done)

    def _answer_soon(
        self, peer: Peer, query: wire.Query, send: Send, *, minor: int = protocol.MINOR
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(self._answer(peer, query, send, minor))
        self._queries.add(task)
        task.add_done_callback(self._queries.discard)
        return task

    async def _answer(self, peer: Peer, query: wire.Query, send: Send, minor: int) -> None:
        try:
            reply = await queries.answer(self._service, query, minor=minor)
            if reply.stats is not None:
                refused = self._routers.ceiling.turned_away
                counted = dataclasses.replace(reply.stats, connections_refused=refused)
                reply = msgspec.structs.replace(reply, stats=counted)
        except NsedgeError as error:
            reply = _error_reply(query, error)
        except Exception:
            log.exception("a query could not be answered")
            reply = _error_reply(query, _internal())
        send(peer, [protocol.encode(reply)])


def _owner(caller: Caller, session: Session) -> str:
    """Whose the media are that come with a message: of who has no name, the session's."""
    return session.key.hex() if caller is ANONYMOUS else caller.name


def _error_reply(query: wire.Query, error: NsedgeError) -> wire.Reply:
    return wire.Reply(id=query.id, error=events.failed_of(query.id, error))


def _internal() -> NsedgeError:
    return NsedgeError("an error inside the daemon; its log has the details")
