"""`GET /v1/realtime?intent=transcription`: OpenAI's sessions that transcribe sound that comes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import functools
import itertools
import logging
import secrets
from collections.abc import Sequence

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nsedge.api import Event, Failed, Listen, Mark, Request, Ticket, is_terminal
from nsedge.errors import BadMessage, InvalidParameter, NsedgeError, OutOfOrder
from nsedge.security.keyring import Scope
from nsedge.web import http_guard
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import gives, read_query, takes_query
from nsedge.web.doors.openai.realtime import bodies
from nsedge.web.doors.openai.realtime.bodies import (
    Append,
    BetaUpdate,
    Clear,
    Commit,
    Message,
    SessionUpdate,
)
from nsedge.web.doors.openai.realtime.items import Items, Told, error_of
from nsedge.web.doors.openai.realtime.settings import Settings, updated, updated_beta
from nsedge.web.errors import Refusal, Refused
from nsedge.web.outgoing import caught_up
from nsedge.web.pouring import Pouring

log = logging.getLogger(__name__)
HEARTBEAT_S = 20.0
"""Of silence, before the connection is asked whether it lives."""
TRANSCRIPTION = "transcription"
BETA = "realtime=v1"
"""In `OpenAI-Beta`: the client speaks the beta."""
LEAST_S = 0.1
"""Of sound, that a client may commit without turn detection."""


class Query(msgspec.Struct, kw_only=True):
    """Of `GET /v1/realtime`. intent: `transcription`, which is all that is done here."""

    intent: str | None = None
    model: str | None = None


@needs(Scope.INFER)
@takes_query(Query)
@gives(upgrades=True, refuses=("origin_not_allowed", "unknown_model"))
async def realtime(http: web.Request) -> web.StreamResponse:
    """`GET /v1/realtime?intent=transcription`."""
    answering = http.app[ANSWERING]
    limits = answering.limits
    http_guard.refuse_foreign_origin(http, limits)
    query = read_query(http, Query)
    if query.intent != TRANSCRIPTION:
        raise InvalidParameter(
            f"sessions here transcribe: intent must be {TRANSCRIPTION}", param="intent"
        )
    if query.model is not None:
        await answering.model(query.model)
    protocols = ("realtime",) if "Sec-WebSocket-Protocol" in http.headers else ()
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S,
        max_msg_size=limits.max_body_bytes,
        compress=False,
        protocols=protocols,
    )
    await socket.prepare(http)
    await Connection(http, socket, Settings(model=query.model)).serve()
    return socket


@dataclasses.dataclass(eq=False, kw_only=True)
class _Listening:
    """A request that hears. came_bytes: of sound, since it began; since_bytes: since the last
    commit. ended: set with its end."""

    pouring: Pouring
    ticket: Ticket | None = None
    came_bytes: int = 0
    since_bytes: int = 0
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Connection:
    """One session: what its client says, and what it is told."""

    def __init__(
        self, http: web.Request, socket: web.WebSocketResponse, settings: Settings
    ) -> None:
        self._http = http
        self._socket = socket
        self._answering = http.app[ANSWERING]
        self._submit = self._answering.submitter(http)
        self._settings = settings
        self._is_beta = BETA in http.headers.get("OpenAI-Beta", "")
        self._items = Items(beta=self._is_beta)
        self._id = f"sess_{secrets.token_hex(12)}"
        self._numbers = itertools.count()
        self._listening: _Listening | None = None
        self._out: asyncio.Queue[tuple[Sequence[Told], Ticket | None, Event | None]]
        self._out = asyncio.Queue()
        self._closing = False

    async def serve(self) -> None:
        """Until either side leaves; what is heard then is cancelled."""
        sender = asyncio.create_task(self._keep_sending())
        self._tell_session("created", beta=self._is_beta)
        try:
            async for message in self._socket:
                await self._hear(message)
                await caught_up(self._out, sender)
        finally:
            self._leave()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def fail(self, error: NsedgeError) -> None:
        """Tell `error`, and end the connection: we are stopping."""
        self._closing = True
        self._say({"type": "error", "error": {**error_of(Refusal.of(error)), "event_id": None}})

    def _leave(self) -> None:
        self._answering.end(self)
        if self._listening is not None and self._listening.ticket is not None:
            self._listening.ticket.cancel()

    # What comes in.

    async def _hear(self, message: WSMessage) -> None:
        """Take an event; what is wrong with it is told, and the session goes on."""
        if message.type is not WSMsgType.TEXT:
            self._refuse(Refusal.of(BadMessage("events are text messages")), None)
            return
        event_id = bodies.event_id_of(message.data)
        try:
            await self._do(bodies.read(message.data))
        except Refused as error:
            self._refuse(error.refusal, event_id)
        except NsedgeError as error:
            self._refuse(Refusal.of(error), event_id)

    def _refuse(self, refusal: Refusal, event_id: str | None) -> None:
        self._say({"type": "error", "error": {**error_of(refusal), "event_id": event_id}})

    async def _do(self, said: Message) -> None:
        match said:
            case SessionUpdate():
                await self._update(updated(self._settings, said.session), beta=False)
            case BetaUpdate():
                await self._update(updated_beta(self._settings, said.session), beta=True)
            case Append():
                await self._append(said)
            case Commit():
                self._commit()
            case Clear():
                if self._listening is not None:
                    self._listening.pouring.feed.mark(Mark.CLEAR)
                    self._listening.since_bytes = 0
                self._items.clear()
                self._say({"type": "input_audio_buffer.cleared"})

    async def _update(self, settings: Settings, *, beta: bool) -> None:
        """Set the session. What is heard under other settings is heard out first."""
        if settings.model is not None and settings.model != self._settings.model:
            await self._answering.model(settings.model)
        if settings != self._settings and self._listening is not None:
            self._listening.pouring.feed.mark(Mark.END)
            await self._listening.ended.wait()
        self._settings, self._items.beta = settings, beta
        self._tell_session("updated", beta=beta)

    async def _append(self, said: Append) -> None:
        try:
            data = base64.b64decode(said.audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidParameter(f"audio is not base64: {error}", param="audio") from error
        if self._listening is None:
            self._listening = await self._begin()
        listening = self._listening
        listening.came_bytes += len(data)
        listening.since_bytes += len(data)
        try:
            await listening.pouring.put(data)
        except OutOfOrder:
            if not listening.ended.is_set():  # else why it ended is told already
                raise

    def _commit(self) -> None:
        listening, second = self._listening, self._settings.bytes_a_second
        came = 0 if listening is None else listening.since_bytes
        if listening is None or came < LEAST_S * second:
            message = (
                f"Error committing input audio buffer: buffer too small. Expected at least"
                f" {1000 * LEAST_S:.0f}ms of audio, but buffer only has"
                f" {1000 * came / second:.2f}ms of audio."
            )
            refusal = Refusal.of(InvalidParameter(message))
            raise Refused(dataclasses.replace(refusal, code="input_audio_buffer_commit_empty"))
        listening.pouring.feed.mark(Mark.COMMIT)
        for told in self._items.commit((listening.came_bytes - came) / second):
            self._say(told)
        listening.since_bytes = 0

    async def _begin(self) -> _Listening:
        """Ask the core to hear."""
        settings, answering = self._settings, self._answering
        wanted = settings.model or answering.settings.speech_model or None
        model = await answering.model(wanted, task=Listen.name)
        answering.charge(self._http)
        listening = _Listening(pouring=Pouring())
        request = Request(
            request_id=f"{self._http[http_guard.REQUEST_ID]}/{next(self._numbers)}",
            model=model.name,
            task=settings.listen(listening.pouring.feed),
            traceparent=self._http.get(http_guard.TRACEPARENT),
        )
        request.check()
        self._items.turns = settings.turns
        answering.begin(self)
        listening.ticket = self._submit(request, functools.partial(self._heard, listening))
        return listening

    # What goes out.

    def _heard(self, listening: _Listening, event: Event) -> None:
        told = self._items.heard(event)
        if is_terminal(event):
            listening.pouring.feed.close()
            listening.ended.set()
            self._items.offset_s += listening.came_bytes / self._settings.bytes_a_second
            self._answering.end(self)
            if self._listening is listening:
                self._listening = None
            if isinstance(event, Failed):
                log.info("a realtime session's request failed", extra={"code": event.code})
        self._out.put_nowait((told, listening.ticket, event))

    def _tell_session(self, what: str, *, beta: bool) -> None:
        kind = "transcription_session" if beta else "session"
        session = (self._settings.told_beta if beta else self._settings.told)(self._id)
        self._say({"type": f"{kind}.{what}", "session": session})

    def _say(self, told: Told) -> None:
        self._out.put_nowait(((told,), None, None))

    async def _keep_sending(self) -> None:
        """Send what there is; a reader that takes nothing for too long is cut off."""
        try:
            while True:
                told, ticket, event = await self._out.get()
                async with asyncio.timeout(self._answering.limits.write_timeout_s):
                    for one in told:
                        named = {"event_id": f"event_{secrets.token_hex(12)}", **one}
                        await self._socket.send_str(msgspec.json.encode(named).decode())
                if ticket is not None and event is not None:
                    ticket.took(event)
                self._out.task_done()
                if self._closing and self._out.empty():
                    await self._socket.close(code=WSCloseCode.GOING_AWAY)
                    return
        except TimeoutError:
            log.info("a reader took nothing for too long and was cut off")
            if self._http.transport is not None:
                self._http.transport.abort()
        except ConnectionError:
            log.debug("the client of a realtime session went away")


ROUTES = (web.get("/v1/realtime", realtime),)
