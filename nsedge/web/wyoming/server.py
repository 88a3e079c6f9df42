"""Wyoming's listener: a TCP port without keys and encryption, as the protocol has neither."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from nsedge.api import Event, Failed, Listen, Mark, Request, Ticket, is_terminal
from nsedge.api.languages import language_code
from nsedge.errors import ConfigInvalid, InvalidParameter, NsedgeError, OutOfOrder, Unavailable
from nsedge.web.access import refuse_exposure
from nsedge.web.answering import Answering
from nsedge.web.errors import Refusal, Refused
from nsedge.web.outgoing import caught_up
from nsedge.web.pouring import Pouring
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
        task = asyncio.create_task(connection.refuse() if full else connection.serve())
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
class _Listening:
    """A request that hears. ended: set with its end."""

    pouring: Pouring
    telling: telling.Telling = field(default_factory=telling.Telling)
    ticket: Ticket | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Connection:
    """One client."""

    _numbers = itertools.count()

    def __init__(
        self, answering: Answering, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._answering = answering
        self._reader = reader
        self._writer = writer
        self._wanted: dict[str, Any] = {}
        self._listening: _Listening | None = None
        self._out: asyncio.Queue[tuple[list[WyomingEvent], Ticket | None, Event | None]]
        self._out = asyncio.Queue()

    async def serve(self) -> None:
        """Until either side leaves; what is heard then is cancelled."""
        sender = asyncio.create_task(self._keep_sending())
        events = EventReader()
        try:
            while data := await self._read():
                for event in events.feed(data):
                    await self._hear(event)
                    await caught_up(self._out, sender)
        except NsedgeError as error:  # nobody knows where the next event begins
            await self._tell_and_leave(error)
        except ConnectionError:
            log.debug("a client of Wyoming's went away")
        finally:
            self._answering.end(self)
            if self._listening is not None and self._listening.ticket is not None:
                self._listening.ticket.cancel()
            sender.cancel()
            self._writer.close()
            await asyncio.gather(sender, return_exceptions=True)

    async def refuse(self) -> None:
        """Say that there is no room."""
        full = Unavailable(f"{MAX_CONNECTIONS} connections are open, the most allowed")
        await self._tell_and_leave(full)
        self._writer.close()

    def fail(self, error: NsedgeError) -> None:
        """Tell `error`, and end the connection: we are stopping."""
        self._refuse(Refusal.of(error))
        self._reader.feed_eof()

    async def _read(self) -> bytes:
        """What comes next; nothing where a client that is not heard says nothing for too long."""
        idle_s = None if self._listening is not None else self._answering.limits.idle_timeout_s
        try:
            async with asyncio.timeout(idle_s):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            return b""

    async def _tell_and_leave(self, error: NsedgeError) -> None:
        event = WyomingEvent(type="error", data={"text": error.message, "code": error.code})
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._send([event])

    # What comes in.

    async def _hear(self, event: WyomingEvent) -> None:
        """Take an event; what is wrong with it is told. Those that are none of ours are dropped, as
        the protocol wants it."""
        try:
            await self._do(event)
        except Refused as error:
            self._refuse(error.refusal)
        except NsedgeError as error:
            self._refuse(Refusal.of(error))

    async def _do(self, event: WyomingEvent) -> None:
        match event.type:
            case "describe":
                models = await self._answering.ask(self._answering.service.models())
                self._say(telling.info(models))
            case "ping":
                self._say(WyomingEvent(type="pong", data=event.data))
            case "transcribe":
                self._wanted = event.data
            case "audio-start":
                await self._begin(event.data)
            case "audio-chunk":
                await self._chunk(event)
            case "audio-stop":
                if self._listening is not None:
                    self._listening.pouring.feed.mark(Mark.END)
                    await self._listening.ended.wait()

    async def _chunk(self, event: WyomingEvent) -> None:
        if self._listening is None:
            await self._begin(event.data)
        listening = self._listening
        if listening is None:
            return
        try:
            await listening.pouring.put(event.payload)
        except OutOfOrder:
            if not listening.ended.is_set():  # else why it ended is told already
                raise

    async def _begin(self, data: dict[str, Any]) -> None:
        """Ask the core to hear; what was heard before is not wanted any more."""
        if self._listening is not None and self._listening.ticket is not None:
            self._listening.ticket.cancel()
            await self._listening.ended.wait()
        answering = self._answering
        name, language = self._wanted.get("name"), self._wanted.get("language")
        wanted = name or answering.settings.speech_model or None
        if not isinstance(wanted, str | None) or not isinstance(language, str | None):
            raise InvalidParameter("name and language are texts", param="name")
        model = await answering.model(wanted, task=Listen.name)
        pouring = Pouring()
        task = Listen(
            feed=pouring.feed,
            language=language_code(language.partition("-")[0]) if language else None,
            idle_s=answering.limits.idle_timeout_s,
            **telling.form_of(data),
        )
        request = Request(request_id=f"wyoming-{next(self._numbers)}", model=model.name, task=task)
        request.check()
        submit = answering.stranger(CALLER)
        listening = self._listening = _Listening(pouring=pouring)
        answering.begin(self)
        listening.ticket = submit(request, lambda event: self._heard(listening, event))

    # What goes out.

    def _heard(self, listening: _Listening, event: Event) -> None:
        told = listening.telling.heard(event)
        if is_terminal(event):
            listening.pouring.feed.close()
            listening.ended.set()
            self._answering.end(self)
            if self._listening is listening:
                self._listening = None
            if isinstance(event, Failed):
                log.info("a client of Wyoming's was not heard", extra={"code": event.code})
        self._out.put_nowait((told, listening.ticket, event))

    def _refuse(self, refusal: Refusal) -> None:
        data = {"text": refusal.message, "code": refusal.code}
        self._say(WyomingEvent(type="error", data=data))

    def _say(self, event: WyomingEvent) -> None:
        self._out.put_nowait(([event], None, None))

    async def _keep_sending(self) -> None:
        """Send what there is; a reader that takes nothing for too long is cut off."""
        try:
            while True:
                told, ticket, event = await self._out.get()
                await self._send(told)
                if ticket is not None and event is not None:
                    ticket.took(event)
                self._out.task_done()
        except TimeoutError:
            log.info("a reader took nothing for too long and was cut off")
            self._writer.transport.abort()
        except ConnectionError:
            log.debug("a client of Wyoming's went away")

    async def _send(self, told: list[WyomingEvent]) -> None:
        async with asyncio.timeout(self._answering.limits.write_timeout_s):
            for one in told:
                self._writer.write(encode(one))
                await self._writer.drain()
