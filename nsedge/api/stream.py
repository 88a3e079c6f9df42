"""A request as an async iterator of events, over any `Service`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nsedge.api import Event, Request, is_terminal, transcripts
from nsedge.api.collecting import Collected, Collecting
from nsedge.api.service import Submitter
from nsedge.api.transcripts import TranscriptText

if TYPE_CHECKING:
    from nsedge.api.embeddings import Embeddings


class EventStream:
    """Iterate over the events of one request; leaving the `async with` early cancels it.

        async with EventStream(service, request) as events:
            async for event in events:
                ...

    The last event is `Finished` or `Failed`; then the iteration ends. An event counts as taken when
    the iteration hands it out, so a slow reader is the service's to bound.

    Without the `async with`, a stream that nobody holds any more is cancelled too: a loop over
    `client.generate(...)` that is left by `break` or an exception ends the request. Only a stream
    kept in a variable runs on until that goes away.
    """

    def __init__(self, service: Submitter, request: Request) -> None:
        self._ended = True
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ticket = service.submit(request, self._events.put_nowait)
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        event = await self._events.get()
        self._ended = is_terminal(event)
        self._ticket.took(event)
        return event

    def cancel(self) -> None:
        """Ask for the end; the terminal event still comes."""
        self._ticket.cancel()

    async def embeddings(self) -> Embeddings:
        """All vectors of a request that embeds, as one array.

        Raises:
            NsedgeError: what the request failed with, or it has none.
        """
        from nsedge.api.embeddings import embeddings_of  # numpy, which few readers need

        return embeddings_of(await self.collected())

    async def collected(self) -> Collected:
        """All that comes of the request, once it has ended.

        Raises:
            NsedgeError: what the request failed with.
        """
        found = Collecting()
        async with self:
            async for event in self:
                found.saw(event)
        return found.collected()

    async def transcript(self) -> TranscriptText:
        """All that was said, of a request that transcribes.

        Raises:
            NsedgeError: what the request failed with.
        """
        found = transcripts.Gathering()
        async with self:
            async for event in self:
                found.saw(event)
        return found.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._ended:
            self._ended = True
            self._ticket.cancel()

    def __del__(self) -> None:
        if not self._ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ticket.cancel)
