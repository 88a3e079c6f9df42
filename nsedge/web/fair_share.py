"""Fair share between keys: of each model, the core has so many requests at once, and further ones
take turns.

Who has fewest at the core goes next; among equals, who was given fewest tokens of late. A key that
sends a thousand requests so waits for itself, and not others for it. Within a key the class counts,
then the order of coming.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nsedge.api import (
    AnyDelta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Priority,
    Request,
    Service,
    Sink,
    Started,
    Ticket,
    Timings,
    Usage,
    is_terminal,
)
from nsedge.errors import DeadlineExceeded, QueueFull

_RANK = {Priority.INTERACTIVE: 0, Priority.NORMAL: 1, Priority.BATCH: 2}


@dataclass(eq=False, slots=True, kw_only=True)
class Turn:
    """A request that waits for its turn, or has it; its submitter's `Ticket`."""

    lane: Lane
    caller: str
    request: Request
    sink: Sink
    since_s: float
    waited_s: float = 0.0
    ticket: Ticket | None = None
    weight: int = 1
    """How many requests it counts for at the core: as many as it asks for answers."""
    expiry: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """End the request wherever it stands; idempotent."""
        if self.ticket is not None:
            self.ticket.cancel()
        elif self.lane.leave(self):
            asyncio.get_running_loop().call_soon(self.sink, self._cancelled())

    def took(self, event: Event) -> None:
        """The reader has taken `event`."""
        if self.ticket is not None:
            self.ticket.took(event)

    def _cancelled(self) -> Finished:
        return Finished(
            request_id=self.request.request_id,
            reason=FinishReason.CANCELLED,
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            timings=Timings(queue_s=self.waited_s, prefill_s=0.0, decode_s=0.0),
        )


@dataclass(eq=False, slots=True)
class _Share:
    """What a caller has of one model now."""

    at_core: int = 0
    tokens: int = 0
    waiting: list[Turn] = field(default_factory=list)


class Lane:
    """The requests of one model."""

    def __init__(self, fair_share: FairShare) -> None:
        self._fair_share = fair_share
        self._shares: dict[str, _Share] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody is here."""
        return not self._shares

    def join(self, turn: Turn) -> None:
        """Go on at once where there is room, else wait; or be refused where too many wait."""
        share = self._shares.get(turn.caller)
        if share is None:
            least = min((one.tokens for one in self._shares.values()), default=0)
            share = self._shares[turn.caller] = _Share(tokens=least)
        share.waiting.append(turn)
        share.waiting.sort(key=lambda one: _RANK[one.request.priority])
        deadline_s = turn.request.deadline_s
        if deadline_s is not None:
            loop = asyncio.get_running_loop()
            turn.expiry = loop.call_later(deadline_s, self._expire, turn)
        self._advance()
        if turn.ticket is None and len(share.waiting) > self._fair_share.max_waiting:
            self.leave(turn)
            full = QueueFull(
                f"{len(share.waiting)} requests of this key wait for their turn, the most allowed",
                retry_after_s=1.0,
            )
            asyncio.get_running_loop().call_soon(
                turn.sink, Failed.of(turn.request.request_id, full)
            )

    def leave(self, turn: Turn) -> bool:
        """Wait no more; whether it waited."""
        share = self._shares.get(turn.caller)
        if share is None or turn not in share.waiting:
            return False
        share.waiting.remove(turn)
        self._settle(turn)
        self._forget(turn.caller)
        return True

    def _advance(self) -> None:
        """Let go on who may, the least served first."""
        most = self._fair_share.max_at_core
        while (used := sum(one.at_core for one in self._shares.values())) < most:
            hopeful = [share for share in self._shares.values() if share.waiting]
            if not hopeful:
                return
            share = min(hopeful, key=lambda one: (one.at_core, one.tokens))
            if used and used + share.waiting[0].weight > most:
                return  # nobody passes who would take its room
            turn = share.waiting.pop(0)
            share.at_core += turn.weight
            self._settle(turn)
            request = turn.request
            if request.deadline_s is not None:
                left_s = max(request.deadline_s - turn.waited_s, 1e-3)
                request = replace(request, deadline_s=left_s)
            turn.ticket = self._fair_share.service.submit(
                request, functools.partial(self._hear, turn)
            )

    def _hear(self, turn: Turn, event: Event) -> None:
        share = self._shares[turn.caller]
        if isinstance(event, Started):
            share.tokens += event.prompt_tokens
            event = _later(event, turn.waited_s)
        elif isinstance(event, AnyDelta):
            share.tokens += len(event.token_ids)
        elif is_terminal(event):
            share.at_core -= turn.weight
            self._forget(turn.caller)
            event = _later(event, turn.waited_s)
        turn.sink(event)
        if is_terminal(event):
            self._advance()

    def _expire(self, turn: Turn) -> None:
        if self.leave(turn):
            late = DeadlineExceeded("its turn did not come in time", param="deadline_s")
            turn.sink(Failed.of(turn.request.request_id, late))

    def _settle(self, turn: Turn) -> None:
        turn.waited_s = self._fair_share.clock() - turn.since_s
        if turn.expiry is not None:
            turn.expiry.cancel()

    def _forget(self, caller: str) -> None:
        share = self._shares[caller]
        if not share.at_core and not share.waiting:
            del self._shares[caller]


class FairShare:
    """Stands before `service`; at most `max_at_core` requests of a model are with it at once, and
    `max_waiting` of a caller wait for each model. clock: monotonic, in seconds."""

    def __init__(
        self,
        service: Service,
        *,
        max_at_core: int,
        max_waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self.service = service
        self.max_at_core = max_at_core
        self.max_waiting = max_waiting
        self.clock = clock
        self._lanes: dict[str, Lane] = {}

    def submit(self, request: Request, sink: Sink, *, caller: str) -> Ticket:
        """As a service takes a request: refusals reach `sink` too, after this has returned."""
        self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.idle}
        lane = self._lanes.setdefault(request.model, Lane(self))
        turn = Turn(
            lane=lane,
            caller=caller,
            request=request,
            sink=sink,
            since_s=self.clock(),
            weight=min(request.choices, self.max_at_core),
        )
        lane.join(turn)
        return turn


def _later(event: Event, waited_s: float) -> Event:
    """`event`, whose time in the queue holds the wait for its turn."""
    if isinstance(event, Started):
        return replace(event, queue_s=event.queue_s + waited_s)
    if isinstance(event, Finished):
        timings = replace(event.timings, queue_s=event.timings.queue_s + waited_s)
        return replace(event, timings=timings)
    return event
