"""The running requests behind one HTTP request."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from nsedge.api import (
    AnyDelta,
    ChoiceFailed,
    ChoiceFinished,
    Delta,
    Event,
    Failed,
    Finished,
    Loading,
    PromptLogprobs,
    Request,
    Result,
    Sink,
    Ticket,
    is_terminal,
)
from nsedge.errors import NsedgeError
from nsedge.web.answer_stream import Batch, settled
from nsedge.web.errors import Refusal, Refused

Submit = Callable[[Request, Sink], Ticket]
"""Takes a request as `Service.submit` does."""
SOON_S = 1e-3
"""The deadline of a request whose own has passed before it was its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One finished choice of an answer: what came of its task, in order, and how it ended."""

    results: tuple[Result, ...]
    finished: Finished

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(one.text for one in self.results if isinstance(one, Delta))

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of all that was written."""
        deltas = (one for one in self.results if isinstance(one, Delta))
        return tuple(itertools.chain.from_iterable(one.token_ids for one in deltas))


class Choices:
    """Submits requests, whose choices are counted through, and hands out their events in batches.
    Each choice has an end of its own, a `Finished` or a `Failed`, whatever request it is of.

    Leaving the `async with` cancels whatever still runs. An event counts as taken when its bytes
    have been written, so a slow reader is the service's to bound.
    """

    def __init__(
        self, submit: Submit, requests: Sequence[Request], *, at_once: int, apart: bool = False
    ) -> None:
        """`at_once`: how many choices run or wait at the core, those of one request at least; each
        request that ends well lets the next go on, and where they stand `apart`, each that fails,
        too."""
        self.loading: Loading | None = None
        """How far the model is from being there, while it is waited for."""
        self._submit = submit
        self._requests = requests
        self._at_once = at_once
        self._apart = apart
        self._tickets: list[Ticket] = []
        self._running: set[int] = set()
        self._first = list(itertools.accumulate((one.choices for one in requests), initial=0))
        """Of each request, its first choice; last, how many there are."""
        self._ended: set[int] = set()
        """Choices that had an end."""
        self._ready: list[tuple[int, Event]] = []
        self._arrived: list[tuple[int, Event]] = []
        """What came of which request, in batches to come and in the one that is out."""
        self._out: list[tuple[int, Event]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._since_s = self._began_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._end: Failed | None = None
        self._left = False

    async def __aenter__(self) -> Self:
        self._submit_more()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        self._cancel()
        self.taken()
        self._out, self._arrived = self._arrived, []
        self.taken()
        self._ready = []

    def watch(self, *, keepalive_s: float, write_timeout_s: float, cut: Callable[[], None]) -> None:
        """From now on `batch` returns an empty one after `keepalive_s` without an event, and `cut`
        is called when a batch was out for `write_timeout_s`: its reader takes nothing.

        One timer serves a whole stream; a timeout at every event would cost more than the event.
        """
        shortest_s = min(keepalive_s, write_timeout_s)

        def look() -> None:
            quiet_s = self._loop.time() - self._since_s
            writing = self._waiter is None
            due_s = (write_timeout_s if writing else keepalive_s) - quiet_s
            if due_s > 0:
                self._timer = self._loop.call_later(min(due_s, shortest_s), look)
                return
            if writing:
                cut()
                return
            self._wake()
            self._timer = self._loop.call_later(shortest_s, look)

        self._timer = self._loop.call_later(shortest_s, look)

    async def batch(self) -> Batch:
        """The events that came since the last batch, at least one; or, watched, none."""
        self._since_s = self._loop.time()
        if not self._ready:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._since_s = self._loop.time()
        batch, self._ready = self._ready, []
        self._out, self._arrived = self._arrived, []
        return batch

    def taken(self) -> None:
        """The reader has the last batch."""
        out, self._out = self._out, []
        for which, event in out:
            self._tickets[which].took(event)

    async def collect(self) -> list[Choice]:
        """All choices, finished.

        Raises:
            Refused: with the first that failed.
        """
        choices: dict[int, Choice] = {}
        async for index, outcome in self._outcomes():
            if isinstance(outcome, Refusal):
                raise Refused(outcome)
            choices[index] = outcome
        return [choices[index] for index in range(self._first[-1])]

    async def collect_each(self) -> list[Choice | Refusal]:
        """All choices, finished, or why they are not."""
        outcomes = {index: outcome async for index, outcome in self._outcomes()}
        return [outcomes[index] for index in range(self._first[-1])]

    async def _outcomes(self) -> AsyncIterator[tuple[int, Choice | Refusal]]:
        """What came of each choice, as it ends."""
        results: dict[int, list[Result]] = {index: [] for index in range(self._first[-1])}
        while results:
            batch = await self.batch()
            self.taken()
            for index, event in batch:
                event = settled(event)
                if isinstance(event, Failed):
                    ended = list(results) if event is self._end else [index]
                    for which in ended:
                        del results[which]
                        yield which, Refusal.of(event)
                elif isinstance(event, Finished):
                    yield index, Choice(results=tuple(results.pop(index)), finished=event)
                elif isinstance(event, Result):
                    results[index].append(event)

    def fail(self, error: NsedgeError) -> None:
        """End the answer with `error`, wherever it stands."""
        self._end = Failed.of(None, error)
        self._ready.append((0, self._end))
        self._wake()

    def _submit_more(self, *, late: bool = False) -> None:
        """Submit what there is room for. What waited here (`late`) has so much less time until its
        deadline."""
        while (which := len(self._tickets)) < len(self._requests):
            request = self._requests[which]
            running = sum(self._requests[one].choices for one in self._running)
            if running and running + request.choices > self._at_once:
                return
            if request.deadline_s is not None and late:
                waited_s = self._loop.time() - self._began_s
                left_s = max(request.deadline_s - waited_s, SOON_S)
                request = replace(request, deadline_s=left_s)
            self._running.add(which)
            self._tickets.append(self._submit(request, self._sink(which)))

    def _sink(self, which: int) -> Sink:
        def sink(event: Event) -> None:
            if is_terminal(event):
                self._running.discard(which)
                well = self._apart or isinstance(settled(event), Finished)
                if well and not self._left:
                    self._submit_more(late=True)
            self.loading = event if isinstance(event, Loading) else None
            if self._left or self.loading is not None:
                self._tickets[which].took(event)
                return
            self._arrived.append((which, event))
            if of_choices := self._spread(which, event):
                self._ready += of_choices
                self._wake()

        return sink

    def _spread(self, which: int, event: Event) -> list[tuple[int, Event]]:
        """What an event of a request means for its choices."""
        first, n = self._first[which], self._requests[which].choices
        if n == 1:
            return [(first, event)]
        if isinstance(event, PromptLogprobs):
            return [(first + choice, event) for choice in range(n)]
        if isinstance(event, ChoiceFinished | ChoiceFailed):
            self._ended.add(first + event.choice)
            return [(first + event.choice, _end_of(event))]
        if is_terminal(event):
            left = [one for one in range(first, first + n) if one not in self._ended]
            return [(one, event) for one in left]
        return [(first + (event.choice if isinstance(event, AnyDelta) else 0), event)]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cancel(self) -> None:
        for which in list(self._running):
            self._tickets[which].cancel()


def _end_of(end: ChoiceFinished | ChoiceFailed) -> Finished | Failed:
    """The end of a choice, as of a request for it alone."""
    if isinstance(end, ChoiceFailed):
        return end.failed()
    fields = {field.name: getattr(end, field.name) for field in dataclasses.fields(end)}
    del fields["choice"]
    return Finished(**fields)
