"""The asyncio client: a `Service` that lives in another process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import zmq

from nsedge import api
from nsedge.api.stream import EventStream
from nsedge.config import endpoints
from nsedge.errors import ConnectionLost, NsedgeError, OutOfOrder, UnknownMedia
from nsedge.ipc import events
from nsedge.ipc import messages as wire
from nsedge.ipc.asking import Asking
from nsedge.ipc.carrying import Carrier
from nsedge.ipc.connection import Answer, Connection
from nsedge.ipc.curve import ClientCurve
from nsedge.ipc.parted import PartedTicket, parts_of
from nsedge.ipc.querying import Querying
from nsedge.ipc.requests import check_known, check_size, encode_request, media_of, room_of
from nsedge.ipc.speaking import ListenTicket, closing
from nsedge.ipc.ticket import MediaTicket, RemoteTicket

log = logging.getLogger(__name__)


class AsyncClient(Asking[EventStream], Querying):
    """Talks to the daemon at `endpoint`, on the running event loop.

        async with AsyncClient("ipc:///run/nsedge/core.sock") as client:
            async with client.generate("smollm2", "Once upon a time") as events:
                async for event in events:
                    ...

    A lost connection ends what was live with `Failed` (connection_lost, retryable), and comes back
    by itself, after `backoff_s[0]` seconds, doubling up to `backoff_s[1]`, each shortened by up to
    a half at random (`jitter` gives 0 to 1). Until then new requests fail at once, the same way,
    and cut the pause short: a client that is wanted looks again after the shortest one.

    - credit_bytes: the window of each stream; None is the daemon's choice.
    - name: told to the daemon, for its log.
    - curve: keys for a daemon that is reached over tcp and asks for them.

    Raises:
        ConfigInvalid: `endpoint` is malformed.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        connect_timeout_s: float = 5.0,
        credit_bytes: int | None = None,
        backoff_s: tuple[float, float] = (1.0, 32.0),
        jitter: Callable[[], float] = random.random,
        name: str = "nsedge-python",
        curve: ClientCurve | None = None,
    ) -> None:
        self._endpoint = endpoints.parse(endpoint)
        self._curve = curve
        self._connect_timeout_s = connect_timeout_s
        self._credit_bytes = credit_bytes
        self._backoff_s = backoff_s
        self._jitter = jitter
        self._name = name
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._connection: Connection | None = None
        self._welcome: wire.Welcome | None = None
        self._carrier: Carrier | None = None
        self._returning: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._tickets: dict[str, RemoteTicket] = {}
        self._queries: dict[str, asyncio.Future[wire.Reply]] = {}
        self._count = 0
        self._absence = ConnectionLost(f"not connected to {self._endpoint} yet")

    @property
    def connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._connection is not None

    async def connect(self) -> None:
        """Open the session. Idempotent.

        Raises:
            ConnectionLost: nobody answered in time; the message says what to do.
            UnsupportedVersion: the daemon speaks another version of the protocol.
            Unavailable: the daemon has as many clients as it takes.
            Forbidden: it does not let our CURVE key in.
        """
        if self._context is not None:
            return
        self._context = zmq.Context()
        try:
            await self._open(self._context)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End what is live, say goodbye, and close. Idempotent; `connect` opens anew."""
        context, self._context = self._context, None
        if self._returning is not None:
            self._returning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._returning
            self._returning = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.send(wire.Bye())
            connection.close()
        self._end_live(ConnectionLost("this client was closed"))
        if context is not None:
            await asyncio.to_thread(context.term)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def submit(self, request: api.Request, sink: api.Sink) -> RemoteTicket:
        """Send a request. Refusals, and a missing connection, reach `sink` as `Failed` too, after
        this has returned."""
        connection, welcome = self._connection, self._welcome
        if isinstance(request.task, api.Listen):
            sink = closing(request.task.feed, sink)
        try:
            if connection is None or welcome is None:
                raise self._missing()
            return self._send(connection, welcome, request, sink)
        except NsedgeError as error:
            failure = api.Failed.of(request.request_id, error)
            asyncio.get_running_loop().call_soon(sink, failure)
            return RemoteTicket(self, request.request_id, sink)

    def cancel(self, ticket: RemoteTicket) -> None:
        """Ask for the end of a request: on the control socket, since it is fast, and on the data
        socket, since there it cannot overtake the request."""
        connection, welcome = self._connection, self._welcome
        if connection is None or welcome is None or not self._holds(ticket):
            return
        if isinstance(ticket, MediaTicket) and ticket.bringing is not None:
            ticket.bringing.cancel()
            end = api.Finished.cancelled(ticket.request_id)
            asyncio.get_running_loop().call_soon(self._end, ticket, end)
            return
        message = wire.Cancel(session=welcome.session, id=ticket.request_id)
        connection.send_control(message)
        connection.send(message)

    def grant(self, ticket: RemoteTicket, count: int) -> None:
        """Let the daemon send `count` more bytes of a request."""
        if self._connection is not None and self._holds(ticket):
            self._connection.send(wire.Credit(id=ticket.request_id, bytes=count))

    def _stream(self, request: api.Request) -> EventStream:
        return EventStream(self, request)

    def _send(
        self,
        connection: Connection,
        welcome: wire.Welcome,
        request: api.Request,
        sink: api.Sink,
    ) -> RemoteTicket:
        label = request.request_id
        if label in self._tickets:
            raise OutOfOrder(f"request {label!r} is still live on this client", param="id")
        check_known(request, welcome.protocol)
        window = min(self._credit_bytes or welcome.initial_credit_bytes, welcome.max_credit_bytes)
        threshold = max(1, window // 2)
        if media_of(request):
            loaded = MediaTicket(self, request, sink, threshold=threshold)
            self._tickets[label] = loaded
            self._bring(loaded)
            return loaded
        frame = encode_request(request, credit=self._credit_bytes)
        room = room_of(frame, welcome.max_message_bytes)
        if room < 0 and isinstance(request.task, api.Embed):
            bare = replace(request, task=replace(request.task, inputs=("x",)))
            frame = encode_request(bare, credit=self._credit_bytes)
            space = room_of(frame, welcome.max_message_bytes)
            parts = parts_of(request, request.task, space)
            return PartedTicket(self, parts, sink, send=self.submit)
        check_size(frame, welcome.max_message_bytes)
        ticket = RemoteTicket(self, label, sink, threshold=threshold)
        if isinstance(request.task, api.Listen):
            ticket = ListenTicket(self, label, sink, threshold=threshold, feed=request.task.feed)
        self._tickets[label] = ticket
        connection.send_frames(frame)
        if isinstance(ticket, ListenTicket):
            ticket.begin(connection.send, welcome.audio_credit_bytes)
        return ticket

    def _bring(self, ticket: MediaTicket) -> None:
        """Send a request behind its media."""
        if self._carrier is not None:
            carrying = self._carry(self._carrier, ticket)
            ticket.bringing = asyncio.get_running_loop().create_task(carrying)

    async def _carry(self, carrier: Carrier, ticket: MediaTicket) -> None:
        try:
            await carrier.send(ticket.request, credit=self._credit_bytes)
        except NsedgeError as error:
            self._end(ticket, api.Failed.of(ticket.request_id, error))
        except Exception:
            log.exception("the media of request %r could not be sent", ticket.request_id)
            unforeseen = NsedgeError("the media could not be sent")
            self._end(ticket, api.Failed.of(ticket.request_id, unforeseen))
        finally:
            ticket.bringing = None

    async def _ask(self, query: wire.Query) -> wire.Reply:
        connection = self._connection
        if connection is None:
            raise self._missing()
        send = connection.send_control if isinstance(query, wire.HealthQuery) else connection.send
        future: asyncio.Future[wire.Reply] = asyncio.get_running_loop().create_future()
        self._queries[query.id] = future
        try:
            send(query)
            reply = await future
        finally:
            del self._queries[query.id]
        if reply.error is not None:
            raise events.error_of(reply.error)
        return reply

    def new_id(self) -> str:
        """A request id that is not in use."""
        while True:
            self._count += 1
            label = f"{self._count:x}"
            if label not in self._tickets:
                return label

    def _holds(self, ticket: RemoteTicket) -> bool:
        return self._tickets.get(ticket.request_id) is ticket

    # The connection's life.

    async def _open(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        connection = Connection(
            self._endpoint,
            context=context,
            on_message=self._hear,
            on_lost=self._lost,
            curve=self._curve,
        )
        try:
            self._welcome = await connection.open(
                client=self._name, timeout_s=self._connect_timeout_s
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._carrier = Carrier(line=connection, welcome=self._welcome, new_id=self.new_id)

    def _lost(self, error: NsedgeError) -> None:
        self._connection = None
        loss = ConnectionLost(error.message, retry_after_s=self._backoff_s[0])
        self._absence = loss
        self._end_live(loss)
        if self._context is not None:
            self._returning = asyncio.get_running_loop().create_task(self._return(self._context))

    def _missing(self) -> ConnectionLost:
        """Why nothing can be sent; whoever asks wants the connection back."""
        self._wanted.set()
        return self._absence

    async def _pause(self, delay_s: float) -> None:
        """Wait for `delay_s`, or once the shortest delay is over, until somebody wants in."""
        shortest_s = self._backoff_s[0]
        await asyncio.sleep(min(delay_s, shortest_s))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), max(0.0, delay_s - shortest_s))
        self._wanted.clear()

    async def _return(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        delay_s, longest_s = self._backoff_s
        while True:
            await self._pause(delay_s * (1 - self._jitter() / 2))
            delay_s = min(2 * delay_s, longest_s)
            try:
                await self._open(context)
            except NsedgeError as error:
                log.info("still without a daemon: %s", error)
                self._absence = ConnectionLost(error.message, retry_after_s=delay_s)
            else:
                return

    def _end_live(self, loss: ConnectionLost) -> None:
        if self._carrier is not None:
            self._carrier.lose(loss)
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            self._deliver(ticket, api.Failed.of(ticket.request_id, loss))
        for future in self._queries.values():
            if not future.done():
                future.set_exception(loss)

    # What comes in.

    def _hear(self, message: Answer, size: int) -> None:
        if isinstance(message, wire.Reply):
            future = self._queries.get(message.id)
            if future is not None and not future.done():
                future.set_result(message)
        elif isinstance(message, wire.Failed):
            self._hear_failure(message)
        elif not isinstance(message, wire.Credit | wire.MediaReady):
            self._hear_event(message, size)
        elif isinstance(ticket := self._tickets.get(message.id), ListenTicket):
            ticket.hear(message)
        elif self._carrier is not None:
            self._carrier.hear(message)

    def _hear_event(self, message: wire.EventMessage, size: int) -> None:
        ticket = self._tickets.get(message.id or "")
        if ticket is None:
            return
        event = events.event_of(message)
        if type(event) in events.CREDITED:
            ticket.arrived(size)
        elif api.is_terminal(event):
            del self._tickets[ticket.request_id]
        self._deliver(ticket, event)

    def _hear_failure(self, message: wire.Failed) -> None:
        label = message.id or ""
        if label in self._tickets:
            if not self._tries_again(self._tickets[label], message):
                self._hear_event(message, 0)
            return
        future = self._queries.get(label)
        if future is not None and not future.done():
            future.set_exception(events.error_of(message))
        elif self._carrier is not None:
            self._carrier.fail(label, events.error_of(message))

    def _tries_again(self, ticket: RemoteTicket, message: wire.Failed) -> bool:
        """Whether the daemon lacks media of a request, and they are brought once more."""
        carrier, lacking = self._carrier, message.code == UnknownMedia.code
        if carrier is None or not (isinstance(ticket, MediaTicket) and ticket.again and lacking):
            return False
        ticket.again = False
        carrier.forget(media_of(ticket.request))
        self._bring(ticket)
        return True

    def _end(self, ticket: RemoteTicket, event: api.Event) -> None:
        """Give a request its terminal event, unless it has had one."""
        if self._holds(ticket):
            del self._tickets[ticket.request_id]
            self._deliver(ticket, event)

    def _deliver(self, ticket: RemoteTicket, event: api.Event) -> None:
        try:
            ticket.sink(event)
        except Exception:
            log.exception("the sink of request %r failed", ticket.request_id)
