"""Small fakes of our own; the contract suite holds them to what the real ones do."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field

from nsedge.api import (
    Chat,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Health,
    HealthStatus,
    Loading,
    LoadOutcome,
    LoadResult,
    LoadWish,
    ModelInfo,
    ModelState,
    ModelStats,
    ModelUsage,
    Recommendation,
    Request,
    Sampling,
    Sink,
    Started,
    Stats,
    Task,
    Timings,
    Usage,
    UsageReport,
    is_terminal,
)
from nsedge.api.models import check_alias, check_drain
from nsedge.errors import (
    DeadlineExceeded,
    EmptyPrompt,
    NsedgeError,
    QueueFull,
    SlowConsumer,
    UnknownModel,
)

MODEL = "echo"


class FakeClock:
    """A monotonic clock that moves when told to."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(eq=False)
class FakeTicket:
    """A request in the fake's hands."""

    service: FakeService
    request: Request
    sink: Sink
    untaken: int = 0
    ended: bool = False
    begun: bool = False
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.ended or self.task is None:
            return
        self.task.cancel()
        if not self.begun:  # a task cancelled before its first turn never runs at all
            self.begun = True
            asyncio.get_running_loop().call_soon(
                self.service.end_cancelled, self, Usage(prompt_tokens=0, completion_tokens=0)
            )

    def expire(self) -> None:
        late = DeadlineExceeded("the fake took too long", param="deadline_s")
        self.emit(Failed.of(self.request.request_id, late))
        self.cancel()

    def took(self, event: Event) -> None:
        self.untaken -= 1

    def emit(self, event: Event) -> None:
        if self.ended:
            return
        self.untaken += 1
        self.ended = is_terminal(event)
        if not self.ended and self.untaken > self.service.max_untaken:
            slow = SlowConsumer("the reader fell behind")
            event, self.ended = Failed.of(self.request.request_id, slow), True
            if self.task is not None:
                self.task.cancel()
        self.sink(event)


@dataclass
class FakeService:
    """Echoes the words of a prompt, a delta each, waiting `pace_s` (and a loop turn) between them.

    Without `gate`, at once; with one, each delta waits for the gate to be open.
    """

    pace_s: float = 0.0
    repeat: int = 1
    """How many times the prompt's words are said."""
    max_requests: int = 64
    max_untaken: int = 1024
    status: HealthStatus = HealthStatus.READY
    fail_after: int | None = None
    """Break off with an error after so many deltas."""
    gate: asyncio.Event | None = None
    load_steps: int = 0
    """Tell so many steps of loading before a request starts."""
    loaded: bool = True
    aliases: set[str] = field(default_factory=set)
    wishes: list[LoadWish] = field(default_factory=list)
    live: set[FakeTicket] = field(default_factory=set)
    cancelled: int = 0
    accepted: int = 0
    refused: int = 0
    requests: list[Request] = field(default_factory=list)
    """All that were submitted."""

    def submit(self, request: Request, sink: Sink) -> FakeTicket:
        self.requests.append(request)
        ticket = FakeTicket(self, request, sink)
        loop = asyncio.get_running_loop()
        ticket.task = loop.create_task(self._run(ticket))
        if request.deadline_s is not None:
            loop.call_later(request.deadline_s, ticket.expire)
        return ticket

    async def models(self) -> tuple[ModelInfo, ...]:
        return (
            ModelInfo(
                name=MODEL,
                kind="causal-lm",
                state=ModelState.READY if self.loaded else ModelState.ABSENT,
                created=1_700_000_000,
                aliases=tuple(sorted(self.aliases)),
                variant="fake",
                provider="none",
                context_tokens=4096,
                slots=self.max_requests,
                has_chat_template=True,
            ),
        )

    async def health(self) -> Health:
        return Health(status=self.status, version="0", uptime_s=1.0)

    async def load(self, wish: LoadWish) -> LoadResult:
        wish.check()
        (model,) = await self.models()
        if wish.model != MODEL:
            raise UnknownModel(f"no model {wish.model!r} here", param="model")
        was = LoadOutcome.ALREADY_LOADED if self.loaded else LoadOutcome.LOADED
        self.loaded = True
        self.wishes.append(wish)
        return LoadResult(outcome=was, model=dataclasses.replace(model, state=ModelState.READY))

    async def unload(
        self, model: str | None, *, drain_s: float | None = None
    ) -> tuple[ModelInfo, ...]:
        check_drain(drain_s)
        if model not in (None, MODEL, *self.aliases):
            raise UnknownModel(f"no model {model!r} here", param="model")
        was, self.loaded = self.loaded, False
        return await self.models() if was else ()

    async def reload(self, model: str) -> ModelInfo:
        return (await self.load(LoadWish(model=model))).model

    async def alias(self, alias: str, model: str | None) -> ModelInfo | None:
        check_alias(alias)
        if model not in (None, MODEL):
            raise UnknownModel(f"no model {model!r} here", param="model")
        self.aliases.discard(alias)
        if model is None:
            return None
        self.aliases.add(alias)
        return (await self.models())[0]

    async def usage(self) -> UsageReport:
        used = ModelUsage(
            usage_count=self.accepted,
            total_s=1.0,
            last_used_s=1_700_000_000.0,
            priority_score=0.5,
            likelihood=1.0,
            hours=(0,) * 24,
            followed_by={},
        )
        first = Recommendation(model=MODEL, likelihood=1.0, priority_score=0.5)
        return UsageReport(
            predictor="score", preload_top=1, models={MODEL: used}, recommendations=(first,)
        )

    async def stats(self) -> Stats:
        model = ModelStats(
            running=len(self.live),
            waiting=0,
            slots=self.max_requests,
            kv_tokens_used=0,
            kv_tokens_capacity=4096,
            steps=0,
            step_s=0.0,
            prompt_tokens=0,
            completion_tokens=0,
            finished={"cancelled": self.cancelled},
        )
        return Stats(
            uptime_s=1.0, rss_bytes=1, requests_accepted=self.accepted, models={MODEL: model}
        )

    def end_cancelled(self, ticket: FakeTicket, usage: Usage) -> None:
        self.cancelled += 1
        self._finish(ticket, FinishReason.CANCELLED, usage)

    async def _run(self, ticket: FakeTicket) -> None:
        ticket.begun = True
        request, said = ticket.request, 0
        words: list[str] = []
        try:
            words = self._words(request)
            self.accepted += 1
            self.live.add(ticket)
            for step in range(self.load_steps):
                ticket.emit(self._loading(request, step))
                await asyncio.sleep(self.pace_s)
            ticket.emit(
                Started(request_id=request.request_id, prompt_tokens=len(words), queue_s=0.0)
            )
            sampling = getattr(request.task, "sampling", Sampling())
            budget = sampling.max_tokens or len(words) * self.repeat
            for number in range(min(budget, len(words) * self.repeat)):
                await self._wait()
                if number == self.fail_after:
                    raise NsedgeError("the fake broke off as told")
                word = words[number % len(words)]
                ticket.emit(
                    Delta(request_id=request.request_id, seq=number, text=word, token_ids=(number,))
                )
                said += 1
            reason = FinishReason.STOP if said == len(words) * self.repeat else FinishReason.LENGTH
        except NsedgeError as error:
            ticket.emit(Failed.of(request.request_id, error))
            return
        except asyncio.CancelledError:
            usage = Usage(prompt_tokens=len(words), completion_tokens=said)
            self.end_cancelled(ticket, usage)
            return
        finally:
            self.live.discard(ticket)
        usage = Usage(prompt_tokens=len(words), completion_tokens=said)
        self._finish(ticket, reason, usage)

    def _loading(self, request: Request, step: int) -> Loading:
        return Loading(
            request_id=request.request_id,
            model=MODEL,
            state=ModelState.LOADING,
            position=0,
            progress=step / self.load_steps,
        )

    def _finish(self, ticket: FakeTicket, reason: FinishReason, usage: Usage) -> None:
        timings = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        label = ticket.request.request_id
        ticket.emit(Finished(request_id=label, reason=reason, usage=usage, timings=timings))

    async def _wait(self) -> None:
        await asyncio.sleep(self.pace_s)
        if self.gate is not None:
            await self.gate.wait()

    def _words(self, request: Request) -> list[str]:
        request.check()
        if request.model not in (MODEL, *self.aliases):
            raise UnknownModel(f"no model {request.model!r} here", param="model")
        if len(self.live) >= self.max_requests:
            self.refused += 1
            raise QueueFull("the queue is full", retry_after_s=1.0)
        text = asked_text(request.task)
        if not text:
            raise EmptyPrompt("the prompt is empty", param="prompt")
        first, *rest = text.split(" ")
        return [first, *(f" {word}" for word in rest)]


def asked_text(task: Task) -> str:
    """What a fake answers to: the text, or the last message."""
    if isinstance(task, Chat):
        return str(task.messages[-1].content)
    return task.text if isinstance(task, Generate) else ""
