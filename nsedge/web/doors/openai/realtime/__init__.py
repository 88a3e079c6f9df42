"""`GET /v1/realtime?intent=transcription`: OpenAI's sessions that transcribe sound that comes."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nsedge.api import Event, Listen, Mark, Request, is_terminal
from nsedge.errors import BadMessage, InvalidParameter
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
    SessionUpdate,
)
from nsedge.web.doors.openai.realtime.items import Items, Told, error_of
from nsedge.web.doors.openai.realtime.settings import Settings, updated, updated_beta
from nsedge.web.errors import Refusal, Refused
from nsedge.web.hearing import HearingConnection, Listening

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
class _Listening(Listening):
    """A request that hears. came_bytes: of sound, since it began; since_bytes: since the last
    commit."""

    came_bytes: int = 0
    since_bytes: int = 0


class Connection(HearingConnection[WSMessage, Told, _Listening]):
    """One session: what its client says, and what it is told."""

    def __init__(
        self, http: web.Request, socket: web.WebSocketResponse, settings: Settings
    ) -> None:
        super().__init__(http.app[ANSWERING])
        self._http = http
        self._socket = socket
        self._submit = self.answering.submitter(http)
        self._settings = settings
        self._is_beta = BETA in http.headers.get("OpenAI-Beta", "")
        self._items = Items(beta=self._is_beta)
        self._id = f"sess_{secrets.token_hex(12)}"
        self._numbers = itertools.count()

    async def serve(self) -> None:
        """Until either side leaves; what is heard then is cancelled."""
        self._tell_session("created", beta=self._is_beta)
        await self.keep_up(self._messages())

    async def _messages(self) -> AsyncIterator[tuple[WSMessage, int]]:
        async for message in self._socket:
            yield message, len(message.data)

    # What comes in.

    async def do(self, said: WSMessage) -> None:
        """Do what an event asks for; where something is wrong with it, the session goes on."""
        if said.type is not WSMsgType.TEXT:
            raise BadMessage("events are text messages")
        match bodies.read(said.data):
            case SessionUpdate(session=session):
                await self._update(updated(self._settings, session), beta=False)
            case BetaUpdate(session=session):
                await self._update(updated_beta(self._settings, session), beta=True)
            case Append(audio=audio):
                await self._append(audio)
            case Commit():
                self._commit()
            case Clear():
                if self.listening is not None:
                    self.listening.pouring.feed.mark(Mark.CLEAR)
                    self.listening.since_bytes = 0
                self._items.clear()
                self.say({"type": "input_audio_buffer.cleared"})

    async def _update(self, settings: Settings, *, beta: bool) -> None:
        """Set the session. What is heard under other settings is heard out first."""
        if settings.model is not None and settings.model != self._settings.model:
            await self.answering.model(settings.model)
        if settings != self._settings and (listening := self.listening) is not None:
            listening.stop()
            await listening.ended.wait()
        self._settings, self._items.beta = settings, beta
        self._tell_session("updated", beta=beta)

    async def _append(self, audio: str) -> None:
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidParameter(f"audio is not base64: {error}", param="audio") from error
        listening = self.listening or await self._begin()
        listening.came_bytes += len(data)
        listening.since_bytes += len(data)
        await listening.pour(data)

    def _commit(self) -> None:
        listening, second = self.listening, self._settings.bytes_a_second
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
            self.say(told)
        listening.since_bytes = 0

    async def _begin(self) -> _Listening:
        """Ask the core to hear."""
        settings, answering = self._settings, self.answering
        wanted = settings.model or answering.settings.speech_model or None
        model = await answering.model(wanted, task=Listen.name)
        answering.charge(self._http)
        listening = _Listening()
        request = Request(
            request_id=f"{self._http[http_guard.REQUEST_ID]}/{next(self._numbers)}",
            model=model.name,
            task=settings.listen(listening.pouring.feed),
            traceparent=self._http.get(http_guard.TRACEPARENT),
        )
        request.check()
        self._items.turns = settings.turns
        self.listen(listening, request, self._submit)
        return listening

    # What goes out.

    def told_of(self, listening: _Listening, event: Event) -> Sequence[Told]:
        """The items of a session, as they become known."""
        told = self._items.heard(event)
        if is_terminal(event):
            self._items.offset_s += listening.came_bytes / self._settings.bytes_a_second
        return told

    def refuse(self, refusal: Refusal, said: WSMessage | None) -> None:
        """Tell an error, by the client's own id of its event."""
        event_id = None
        if said is not None and said.type is WSMsgType.TEXT:
            event_id = bodies.event_id_of(said.data)
        self.say({"type": "error", "error": {**error_of(refusal), "event_id": event_id}})

    def _tell_session(self, what: str, *, beta: bool) -> None:
        kind = "transcription_session" if beta else "session"
        session = (self._settings.told_beta if beta else self._settings.told)(self._id)
        self.say({"type": f"{kind}.{what}", "session": session})

    async def send(self, told: Sequence[Told]) -> None:
        """Write to the client. Raises ConnectionError where it went away."""
        for one in told:
            named = {"event_id": f"event_{secrets.token_hex(12)}", **one}
            await self._socket.send_str(msgspec.json.encode(named).decode())

    async def hang_up(self) -> None:
        """End the connection: all was sent."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def cut_off(self) -> None:
        """End the connection at once."""
        if self._http.transport is not None:
            self._http.transport.abort()


ROUTES = (web.get("/v1/realtime", realtime),)
