"""Wyoming's listener: a TCP port without keys and encryption, as the protocol has neither."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsedge.api import Event, Listen, Request
from nsedge.api.languages import language_code
from nsedge.errors import ConfigInvalid, InvalidParameter, NsedgeError, Unavailable
from nsedge.web.access import refuse_exposure
from nsedge.web.answering import Answering
from nsedge.web.errors import Refusal
from nsedge.web.hearing import HearingConnection, Listening
from nsedge.web.wyoming import telling
from nsedge.web.wyoming.wire import EventReader, WyomingEvent, encode

log = logging.getLogger(__name__)
CALLER = "wyoming"
"""Whose rates and fair share they are."""
READ_BYTES = 64 << 10
MAX_CONNECTIONS = 64


@dataclass(frozen=True, kw_only=True)
class WyomingAddress:
    """Where to listen; `on_listening` gets the address really bound."""

    host: str
    port: int
    on_listening: Callable[[str, int], None] | None = None


@contextlib.asynccontextmanager
async def hearing_wyoming(answering: Answering, address: WyomingAddress) -> AsyncIterator[None]:
    """Serve Wyoming's clients within the block; those that are left at its end are cut off.

    Raises:
        ConfigInvalid: the address cannot be bound, or others reach it and may not.
    """
    limits = answering.limits
    refuse_exposure(
        address.host,
        keys=False,
        tls=False,
        anonymous=limits.allow_anonymous,
        cleartext=limits.allow_cleartext,
    )
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        full = len(tasks) >= MAX_CONNECTIONS
        connection = Connection(answering, reader, writer)
        task = asyncio.create_task(connection.refuse_room() if full else connection.serve())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_server(connected, address.host, address.port)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigInvalid(
            f"cannot listen on {address.host}:{address.port}: {why}", param="doors.wyoming"
        ) from error
    if address.on_listening is not None:
        address.on_listening(*server.sockets[0].getsockname()[:2])
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False, kw_only=True)
class _Listening(Listening):
    """A request that hears a client of Wyoming's."""

    telling: telling.Telling = field(default_factory=telling.Telling)


class Connection(HearingConnection[WyomingEvent, WyomingEvent, _Listening]):
    """One client."""

    _numbers = itertools.count()

    def __init__(
        self, answering: Answering, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(answering)
        self._reader = reader
        self._writer = writer
        self._wanted: dict[str, Any] = {}

    async def serve(self) -> None:
        """Until either side leaves; what is heard then is cancelled."""
        try:
            await self.keep_up(self._events())
        except NsedgeError as error:  # nobody knows where the next event begins
            await self._tell_and_leave(error)
        except ConnectionError:
            log.debug("a client of Wyoming's went away")
        finally:
            self._writer.close()

    async def refuse_room(self) -> None:
        """Say that there is no room."""
        full = Unavailable(f"{MAX_CONNECTIONS} connections are open, the most allowed")
        await self._tell_and_leave(full)
        self._writer.close()

    async def _events(self) -> AsyncIterator[tuple[WyomingEvent, int]]:
        """What the client says, each with its size; ends where it leaves. Raises NsedgeError for
        what is no event."""
        events, before = EventReader(), 0
        while data := await self._read():
            for event in events.feed(data):
                yield event, events.taken_bytes - before
                before = events.taken_bytes

    async def _read(self) -> bytes:
        """What comes next; nothing where a client that is not heard says nothing for too long."""
        idle_s = None if self.listening is not None else self.answering.limits.idle_timeout_s
        try:
            async with asyncio.timeout(idle_s):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            return b""

    async def _tell_and_leave(self, error: NsedgeError) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(self.answering.limits.write_timeout_s):
                await self.send([_error(Refusal.of(error))])

    # What comes in.

    async def do(self, said: WyomingEvent) -> None:
        """Do what an event asks for. Those that are none of ours are dropped, as the protocol wants
        it."""
        match said.type:
            case "describe":
                models = await self.answering.ask(self.answering.service.models())
                self.say(telling.info(models))
            case "ping":
                self.say(WyomingEvent(type="pong", data=said.data))
            case "transcribe":
                self._wanted = said.data
            case "audio-start":
                await self._begin(said.data)
            case "audio-chunk":
                await self._chunk(said)
            case "audio-stop":
                if self.listening is not None:
                    self.listening.stop()

    async def _chunk(self, said: WyomingEvent) -> None:
        if self.listening is None or self.listening.stopped:
            await self._begin(said.data)
        if self.listening is not None:
            await self.listening.pour(said.payload)

    async def _begin(self, data: dict[str, Any]) -> None:
        """Ask the core to hear. What was stopped is heard out first; other sound is not wanted any
        more."""
        if (earlier := self.listening) is not None:
            if not earlier.stopped:
                self.drop()
            await earlier.ended.wait()
        answering = self.answering
        name, language = self._wanted.get("name"), self._wanted.get("language")
        wanted = name or answering.settings.speech_model or None
        if not isinstance(wanted, str | None) or not isinstance(language, str | None):
            raise InvalidParameter("name and language are texts", param="name")
        model = await answering.model(wanted, task=Listen.name)
        listening = _Listening()
        task = Listen(
            feed=listening.pouring.feed,
            language=language_code(language.partition("-")[0]) if language else None,
            idle_s=answering.limits.idle_timeout_s,
            **telling.form_of(data),
        )
        request = Request(request_id=f"wyoming-{next(self._numbers)}", model=model.name, task=task)
        request.check()
        self.listen(listening, request, answering.stranger(CALLER))

    # What goes out.

    def told_of(self, listening: _Listening, event: Event) -> Sequence[WyomingEvent]:
        """The transcript, as it becomes known."""
        return listening.telling.heard(event)

    def refuse(self, refusal: Refusal, said: WyomingEvent | None) -> None:
        """Tell an error."""
        self.say(_error(refusal))

    async def send(self, told: Sequence[WyomingEvent]) -> None:
        """Write to the client. Raises ConnectionError where it went away."""
        for one in told:
            self._writer.write(encode(one))
            await self._writer.drain()

    async def hang_up(self) -> None:
        """End the connection: all was sent."""
        self._reader.feed_eof()

    def cut_off(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


def _error(refusal: Refusal) -> WyomingEvent:
    return WyomingEvent(type="error", data={"text": refusal.message, "code": refusal.code})
