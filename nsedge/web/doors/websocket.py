"""A WebSocket that carries several requests at once: the messages and events of the ZeroMQ
protocol, in JSON where the client speaks in text, in MessagePack where it speaks in binary."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import logging

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nsedge.api import Event, Failed, Media, is_terminal
from nsedge.errors import BadMessage, NsedgeError, QueueFull, UnknownMedia
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from nsedge.ipc.events import message_of
from nsedge.ipc.hearing import fed
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import MediaStore
from nsedge.ipc.messages.base import Id, Wire
from nsedge.ipc.requests import request_of
from nsedge.ipc.session import Session, Stream
from nsedge.ipc.unknown import check_fields
from nsedge.ipc.uploads import Uploads
from nsedge.security.keyring import Scope
from nsedge.web import http_guard
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives
from nsedge.web.door import Door
from nsedge.web.errors import PlainErrorBody, Refused, plain_error
from nsedge.web.outgoing import MOST_UNSENT, unless_ended

log = logging.getLogger(__name__)
HEARTBEAT_S = 20.0
"""Of silence, before the connection is asked whether it lives."""
SWEEP_S = 0.5
"""Between two looks for streams that have waited too long for credit."""
_LIMITS = Limits(media_bytes=0)
_FORMS = (WSMsgType.TEXT, WSMsgType.BINARY)


class Cancel(Wire, frozen=True, kw_only=True, tag="cancel"):
    """Ends a request of this connection; harmless where it is unknown."""

    id: Id


class Ping(Wire, frozen=True, kw_only=True, tag="ping"):
    """Asks for a `pong`."""


Message = wire.Asking | wire.Audio | wire.Credit | Cancel | Ping
_JSON = msgspec.json.Decoder(Message)
_MSGPACK = msgspec.msgpack.Decoder(Message)
_LABELLED = msgspec.json.Decoder(protocol.Labelled)


def in_json(event: Event) -> bytes:
    """An event as a text message has it; binary is base64."""
    return msgspec.json.encode(message_of(event))


@needs(Scope.INFER)
@gives(upgrades=True, refuses=("origin_not_allowed",))
async def stream(http: web.Request) -> web.StreamResponse:
    """`GET /v1/stream`."""
    limits = http.app[ANSWERING].limits
    http_guard.refuse_foreign_origin(http, limits)
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S, max_msg_size=limits.max_body_bytes, compress=False
    )
    await socket.prepare(http)
    await Connection(http, socket).serve()
    return socket


class Connection:
    """One client: what it asks for, and what it is sent."""

    def __init__(self, http: web.Request, socket: web.WebSocketResponse) -> None:
        self._http = http
        self._socket = socket
        self._answering = http.app[ANSWERING]
        self._submit = self._answering.submitter(http)
        self._form: WSMsgType | None = None
        self._session = Session(
            peer=b"",
            key=b"",
            limits=_LIMITS,
            last_seen_s=0.0,
            uploads=Uploads(MediaStore(0), _LIMITS),
        )
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._due = asyncio.Event()
        self._sent = asyncio.Event()
        self._said = 0
        """Of what the session's outbox holds, the pongs and refusals."""
        self._stopping = False

    async def serve(self) -> None:
        """Until either side leaves; what runs then is cancelled."""
        sender = self._loop.create_task(self._keep_sending())
        sweep = self._loop.create_task(self._keep_sweeping())
        try:
            async for message in self._socket:
                self._hear(message)
                await self._caught_up(sender)
        finally:
            self._session.end_all(None)
            self._answering.end(self)
            for task in (sender, sweep):
                task.cancel()
            await asyncio.gather(sender, sweep, return_exceptions=True)

    def fail(self, error: NsedgeError) -> None:
        """End what runs with `error`, and then the connection: we are stopping."""
        self._stopping = True
        self._session.end_all(Failed.of(None, error))
        self._flush_soon()

    # What comes in.

    def _hear(self, message: WSMessage) -> None:
        if self._form is None and message.type in _FORMS:
            self._form = message.type
            if self._form is WSMsgType.TEXT:
                self._session.encode = in_json
        try:
            self._do(self._read(message))
        except Refused as error:
            refusal = error.refusal
            self._say_failed(
                Failed(
                    request_id=self._label(message),
                    code=refusal.code,
                    message=refusal.message,
                    retryable=refusal.retryable,
                    retry_after_s=refusal.retry_after_s,
                )
            )
        except NsedgeError as error:
            self._say_failed(Failed.of(self._label(message), error))
        self._flush_soon()

    def _read(self, message: WSMessage) -> Message:
        if message.type is not self._form:
            raise BadMessage("a connection speaks in text messages or in binary ones, not in both")
        is_text = self._form is WSMsgType.TEXT
        try:
            asked: Message = (_JSON if is_text else _MSGPACK).decode(message.data)
            if isinstance(asked, wire.Asked):
                said = (msgspec.json if is_text else msgspec.msgpack).decode(message.data)
                check_fields(said, type(asked))
            return asked
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
            raise BadMessage(
                f"the message does not fit: {error}", param=protocol.field_at_fault(error)
            ) from error

    def _label(self, message: WSMessage) -> str | None:
        """The `id` of a message that cannot be served, where it can be read; one that is in use is
        not this message's to end."""
        if message.type is not self._form:
            return None
        try:
            if self._form is WSMsgType.TEXT:
                label = _LABELLED.decode(message.data).id
            else:
                label = protocol.readable_id(message.data)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            return None
        return None if label in self._session.streams else label

    def _do(self, asked: Message) -> None:
        match asked:
            case wire.Asked():
                self._begin(asked)
            case wire.Audio():
                self._session.hear(asked)
            case wire.Credit():
                self._session.grant(asked.id, asked.bytes)
            case Cancel():
                self._session.cancel(asked.id)
            case Ping():
                self._say(self._encoded(wire.Pong()))
            case _:
                self._begin(asked)

    def _begin(self, asked: wire.Asking) -> None:
        session, most = self._session, self._answering.limits.max_in_flight
        self._answering.charge(self._http)
        if len(session.streams) >= most:
            raise QueueFull(f"{most} requests run on this connection, the most allowed")
        request = request_of(asked, _media)
        request.check()
        running = session.open(asked.id, asked.credit)
        request = fed(
            request,
            session,
            running,
            soon=self._loop.call_soon_threadsafe,
            flush=self._flush_soon,
        )
        label = f"{self._http[http_guard.REQUEST_ID]}/{next(self._numbers)}"
        trace = request.traceparent or self._http.get(http_guard.TRACEPARENT)
        named = dataclasses.replace(request, request_id=label, traceparent=trace)
        self._answering.begin(self)
        try:
            running.ticket = self._submit(named, functools.partial(self._offer, running))
        except Exception:
            log.exception("request %s could not be taken", label)
            self._session.offer(running, Failed.of(asked.id, NsedgeError("internal error")))
            return
        if running.cancelled:
            running.ticket.cancel()

    # What goes out.

    def _offer(self, running: Stream, event: Event) -> None:
        self._session.offer(running, dataclasses.replace(event, request_id=running.request_id))
        self._flush_soon()

    def _say_failed(self, failed: Failed) -> None:
        self._say(self._session.encode(failed))

    def _say(self, frame: bytes) -> None:
        self._session.outbox.append(frame)
        self._said += 1

    @property
    def _unsent(self) -> int:
        """Pongs, refusals and ends of requests that wait to be sent."""
        return self._said + sum(is_terminal(event) for _, event in self._session.taken)

    async def _caught_up(self, sender: asyncio.Task[None]) -> None:
        """Wait until what was answered is sent, where it is much; results have their credit."""
        while len(self._session.outbox) >= MOST_UNSENT <= self._unsent and not sender.done():
            self._sent.clear()
            await unless_ended(self._sent.wait, sender)

    def _encoded(self, message: wire.ServerMessage) -> bytes:
        if self._form is WSMsgType.TEXT:
            return msgspec.json.encode(message)
        return protocol.encode(message)

    def _flush_soon(self) -> None:
        if not self._session.streams:
            self._answering.end(self)
        self._due.set()

    async def _keep_sending(self) -> None:
        """Send what there is; a reader that takes nothing for too long is cut off."""
        session, limit_s = self._session, self._answering.limits.write_timeout_s
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                frames, taken = session.outbox, session.taken
                session.outbox, session.taken, self._said = [], [], 0
                async with asyncio.timeout(limit_s):
                    for frame in frames:
                        await self._send(frame)
                for running, event in taken:
                    if running.ticket is not None:
                        running.ticket.took(event)
                self._sent.set()
                if self._stopping:
                    await self._socket.close(code=WSCloseCode.GOING_AWAY)
                    return
        except TimeoutError:
            log.info("a reader took nothing for too long and was cut off")
            if self._http.transport is not None:
                self._http.transport.abort()
        except ConnectionError:
            log.debug("the client of a WebSocket went away")

    async def _send(self, frame: bytes) -> None:
        if self._form is WSMsgType.TEXT:
            await self._socket.send_str(frame.decode())
        else:
            await self._socket.send_bytes(frame)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._session.end_stalled(self._loop.time())
            self._flush_soon()


def _media(part: wire.MediaPart) -> Media:
    """What a part shows, which must stand in it: nothing is kept of a connection."""
    if part.data is None:
        raise UnknownMedia("media must stand in their part here: data", param="messages")
    return Media(type=part.media_type, data=part.data, shape=part.shape, dtype=part.dtype)


DOOR = Door(
    name="websocket",
    prefixes=("/v1/stream",),
    routes=(web.get("/v1/stream", stream),),
    error_body=plain_error,
    error_kind=PlainErrorBody,
)
