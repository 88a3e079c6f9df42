"""The plain synchronous client: the asyncio one on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nsedge import api
from nsedge.api import transcripts
from nsedge.api.collecting import Collected, Collecting
from nsedge.api.transcripts import TranscriptText
from nsedge.errors import ConnectionLost
from nsedge.ipc.aio import AsyncClient
from nsedge.ipc.asking import Asking
from nsedge.ipc.curve import ClientCurve
from nsedge.ipc.ticket import RemoteTicket

if TYPE_CHECKING:
    from nsedge.api.embeddings import Embeddings

T = TypeVar("T")


class Events:
    """Iterate over the events of one request, from one thread at a time; the last is `Finished` or
    `Failed`.

    Leaving the `with` cancels the request, and so does leaving a `for` loop over
    `client.generate(...)` by `break` or an exception, as nobody holds the stream any more. A stream
    kept in a variable runs on until that goes away, or `cancel` is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[api.Event] = queue.SimpleQueue()
        self._ticket: RemoteTicket | None = None
        self._ended = False

    async def submit(self, client: AsyncClient, request: api.Request) -> None:
        """Send the request; to run on the client's loop."""
        self._ticket = client.submit(request, self._queue.put)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> api.Event:
        if self._ended:
            raise StopIteration
        event = self._queue.get()
        self._ended = api.is_terminal(event)
        ticket = self._ticket
        if ticket is not None and (owed := ticket.count(event)):
            self._call(ticket.grant, owed)
        return event

    def cancel(self) -> None:
        """Ask for the end; the terminal event still comes."""
        if self._ticket is not None:
            self._call(self._ticket.cancel)

    def embeddings(self) -> Embeddings:
        """All vectors of a request that embeds, as one array.

        Raises:
            NsedgeError: what the request failed with, or it has none.
        """
        from nsedge.api.embeddings import embeddings_of  # numpy, which few readers need

        return embeddings_of(self.collected())

    def collected(self) -> Collected:
        """All that comes of the request, once it has ended.

        Raises:
            NsedgeError: what the request failed with.
        """
        found = Collecting()
        with self:
            for event in self:
                found.saw(event)
        return found.collected()

    def transcript(self) -> TranscriptText:
        """All that was said, of a request that transcribes.

        Raises:
            NsedgeError: what the request failed with.
        """
        found = transcripts.Gathering()
        with self:
            for event in self:
                found.saw(event)
        return found.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._ended:
            self._ended = True
            self.cancel()

    def _call(self, step: Callable[..., None], *arguments: int) -> None:
        with contextlib.suppress(RuntimeError):  # the client was closed, and the request ended
            self._loop.call_soon_threadsafe(step, *arguments)


class Client(Asking[Events]):
    """As `AsyncClient`, for code without an event loop; usable from any thread.

        with Client("ipc:///run/nsedge/core.sock") as client:
            for event in client.generate("smollm2", "Once upon a time"):
                ...

    The connection is made at once.

    Raises:
        ConfigInvalid: `endpoint` is malformed.
        ConnectionLost: nobody answered in time; the message says what to do.
        UnsupportedVersion: the daemon speaks another version of the protocol.
        Unavailable: the daemon has as many clients as it takes.
        Forbidden: it does not let our CURVE key in.
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
        self._client = AsyncClient(
            endpoint,
            connect_timeout_s=connect_timeout_s,
            credit_bytes=credit_bytes,
            backoff_s=backoff_s,
            jitter=jitter,
            name=name,
            curve=curve,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="nsedge-client", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._client.connect())
        except BaseException:
            self.close()
            raise

    @property
    def connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._client.connected

    def models(self) -> tuple[api.ModelInfo, ...]:
        """Every model served there. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.models())

    def health(self) -> api.Health:
        """Whether requests are taken. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.health())

    def stats(self) -> api.Stats:
        """Counters and gauges. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.stats())

    def load(self, wish: api.LoadWish) -> api.LoadResult:
        """Have a model in memory. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.load(wish))

    def unload(
        self, model: str | None, *, drain_s: float | None = None
    ) -> tuple[api.ModelInfo, ...]:
        """Let a model leave memory, all where None; those that left. Raises ConnectionLost, or
        what the daemon answers."""
        return self._run(self._client.unload(model, drain_s=drain_s))

    def reload(self, model: str) -> api.ModelInfo:
        """Have a bundle read anew. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.reload(model))

    def alias(self, alias: str, model: str | None) -> api.AliasResult:
        """Give a model a further name, or take it away where None. Raises ConnectionLost, or what
        the daemon answers."""
        return self._run(self._client.alias(alias, model))

    def usage(self) -> api.UsageReport:
        """How models have been used. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.usage())

    def read_prompt(self, question: api.PromptQuestion) -> api.PromptReading:
        """A prompt as its model would read it. Raises ConnectionLost, or what the daemon
        answers."""
        return self._run(self._client.read_prompt(question))

    def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        """The text of some tokens. Raises ConnectionLost, or what the daemon answers."""
        return self._run(self._client.detokenize(model, token_ids))

    def describe(self, model: str) -> api.ModelCard:
        """The card of a model, from its package. Raises ConnectionLost, or what the daemon
        answers."""
        return self._run(self._client.describe(model))

    def close(self) -> None:
        """End what is live, say goodbye, and close for good. Idempotent."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def new_id(self) -> str:
        """A request id that is not in use."""
        return self._client.new_id()

    def _stream(self, request: api.Request) -> Events:
        events = Events(self._loop)
        self._run(events.submit(self._client, request))
        return events

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise ConnectionLost("this client was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
