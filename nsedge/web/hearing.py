"""A connection whose client speaks: one request at a time hears it, and what comes of that is sent
in order. Reading goes on while something is done, so that a client that leaves is noticed."""

from __future__ import annotations

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nsedge.api import Event, Failed, Mark, Request, Ticket, is_terminal
from nsedge.errors import NsedgeError, OutOfOrder
from nsedge.web.answering import Answering
from nsedge.web.choices import Submit
from nsedge.web.errors import Refusal, Refused
from nsedge.web.outgoing import caught_up, unless_ended
from nsedge.web.pouring import Pouring

log = logging.getLogger(__name__)
AHEAD_BYTES = 256 << 10
"""Of what a client says, read before what it said earlier is done."""
EVENT_BYTES = 512
"""About what an event takes beside its own bytes."""


@dataclass(eq=False, kw_only=True)
class Listening:
    """A request that hears. ended: set with its end."""

    pouring: Pouring = field(default_factory=Pouring)
    ticket: Ticket | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def stopped(self) -> bool:
        """Whether no more sound comes, and what came is heard out."""
        return self.pouring.feed.ended

    def stop(self) -> None:
        """No more sound comes. Idempotent."""
        if not self.stopped:
            self.pouring.feed.mark(Mark.END)

    async def pour(self, data: bytes) -> None:
        """Add sound, as fast as it is heard. Raises OutOfOrder behind its end."""
        try:
            await self.pouring.put(data)
        except OutOfOrder:
            if not self.ended.is_set():  # else why it ended is told already
                raise


S = TypeVar("S")
"""An event of the client's."""
T = TypeVar("T")
"""An event that it is told."""
L = TypeVar("L", bound=Listening)


class HearingConnection(ABC, Generic[S, T, L]):
    """One client: what it says is done in order, by one task; what it is told is sent by another.
    A client that reads nothing is not heard any further."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.listening: L | None = None
        self._said: asyncio.Queue[tuple[S, int]] = asyncio.Queue()
        self._ahead_bytes = 0
        self._out: asyncio.Queue[tuple[Sequence[T], Ticket | None, Event | None]]
        self._out = asyncio.Queue()
        self._closing = False

    @abstractmethod
    async def do(self, said: S) -> None:
        """Do what the client says. Raises Refused or NsedgeError, which it is told."""

    @abstractmethod
    def refuse(self, refusal: Refusal, said: S | None) -> None:
        """Say what is wrong with what the client said, or with the connection."""

    @abstractmethod
    def told_of(self, listening: L, event: Event) -> Sequence[T]:
        """What the client is told of an event of a request of its."""

    @abstractmethod
    async def send(self, told: Sequence[T]) -> None:
        """Write to the client. Raises ConnectionError where it went away."""

    @abstractmethod
    async def hang_up(self) -> None:
        """End the connection: all was sent."""

    @abstractmethod
    def cut_off(self) -> None:
        """End the connection at once."""

    async def keep_up(self, said: AsyncIterator[tuple[S, int]]) -> None:
        """Do what the client says, each with its size in bytes, until it says no more; what is
        heard then is cancelled."""
        sender = asyncio.create_task(self._keep_sending())
        doer = asyncio.create_task(self._keep_doing(sender))
        try:
            async for one, size in said:
                self._said.put_nowait((one, size + EVENT_BYTES))
                self._ahead_bytes += size + EVENT_BYTES
                if self._ahead_bytes >= AHEAD_BYTES:
                    await unless_ended(self._said.join, doer)
        finally:
            self.answering.end(self)
            self.drop()
            for task in (doer, sender):
                task.cancel()
            await asyncio.gather(doer, sender, return_exceptions=True)

    def fail(self, error: NsedgeError) -> None:
        """Tell `error`, and end the connection: we are stopping."""
        self._closing = True
        self.refuse(Refusal.of(error), None)

    def drop(self) -> None:
        """Cancel the request that hears, if any."""
        if self.listening is not None and self.listening.ticket is not None:
            self.listening.ticket.cancel()

    def listen(self, listening: L, request: Request, submit: Submit) -> None:
        """Have `request` hear the client from now on."""
        self.answering.begin(self)
        listening.ticket = submit(request, functools.partial(self._heard, listening))
        self.listening = listening

    def say(self, told: T) -> None:
        """Tell the client something."""
        self._out.put_nowait(((told,), None, None))

    def _heard(self, listening: L, event: Event) -> None:
        told = self.told_of(listening, event)
        if is_terminal(event):
            listening.pouring.feed.close()
            listening.ended.set()
            self.answering.end(self)
            if self.listening is listening:
                self.listening = None
            if isinstance(event, Failed):
                log.info("a client was not heard", extra={"code": event.code})
        self._out.put_nowait((told, listening.ticket, event))

    async def _keep_doing(self, sender: asyncio.Task[None]) -> None:
        try:
            while True:
                said, size = await self._said.get()
                try:
                    await self.do(said)
                except Refused as error:
                    self.refuse(error.refusal, said)
                except NsedgeError as error:
                    self.refuse(Refusal.of(error), said)
                self._ahead_bytes -= size
                self._said.task_done()
                await caught_up(self._out, sender)
        except Exception:
            log.exception("what a client said could not be done")
            self.cut_off()

    async def _keep_sending(self) -> None:
        """Send what there is; a reader that takes nothing for too long is cut off."""
        try:
            while True:
                told, ticket, event = await self._out.get()
                async with asyncio.timeout(self.answering.limits.write_timeout_s):
                    await self.send(told)
                if ticket is not None and event is not None:
                    ticket.took(event)
                self._out.task_done()
                if self._closing and self._out.empty():
                    await self.hang_up()
                    return
        except TimeoutError:
            log.info("a reader took nothing for too long and was cut off")
            self.cut_off()
        except ConnectionError:
            log.debug("a client that was heard went away")
