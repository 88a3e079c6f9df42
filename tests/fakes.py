"""Small fakes of our own; the contract suite holds them to what the real ones do."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from nsedge.api import (
    AliasResult,
    Caption,
    Chat,
    ChoiceFinished,
    Classify,
    Delta,
    Embed,
    Event,
    Failed,
    Fill,
    Finished,
    FinishReason,
    Generate,
    Health,
    HealthStatus,
    Imagine,
    Listen,
    Loading,
    LoadOutcome,
    LoadResult,
    LoadWish,
    ModelCard,
    ModelInfo,
    ModelState,
    ModelStats,
    ModelUsage,
    PromptLogprobs,
    PromptQuestion,
    PromptReading,
    Recommendation,
    Request,
    Sampling,
    Score,
    Sink,
    Started,
    Stats,
    Timings,
    ToolCallDelta,
    Transcribe,
    Usage,
    UsageReport,
    Vectors,
    is_terminal,
)
from nsedge.api.models import check_alias, check_drain
from nsedge.api.prompts import check_tokens
from nsedge.errors import (
    DeadlineExceeded,
    EmptyPrompt,
    InvalidParameter,
    NsedgeError,
    QueueFull,
    SlowConsumer,
    UnknownModel,
    UnsupportedTask,
)
from tests.fake_answers import (
    DIMENSIONS,
    MASK,
    asked_text,
    hear,
    heard,
    imagined,
    judged,
    likely,
    vector,
)

MODEL = "echo"
LABELS = ("short", "long")
LONGEST_WORD = 64
"""Of what the fake makes of a token."""
ROWS = 2
"""Of one `Vectors` of the fake."""


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
        if self.ended and isinstance(self.request.task, Listen):
            self.request.task.feed.close()
        self.sink(event)


@dataclass
class FakeService:
    """Echoes the words of a prompt, a delta each, waiting `pace_s` (and a loop turn) between them.

    Without `gate`, at once; with one, each delta waits for the gate to be open, and so does the end
    of sound that came.
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
    tasks: tuple[str, ...] = (
        *("generate", "chat", "embed", "transcribe", "caption", "listen"),
        *("classify", "fill", "score"),
    )
    kind: str = "causal-lm"
    head: str | None = None
    """What it says of itself."""
    shows: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    """Events that are the answer to a text, whatever they are."""
    load_steps: int = 0
    """Tell so many steps of loading before a request starts."""
    loaded: bool = True
    aliases: set[str] = field(default_factory=set)
    unkept: str | None = None
    """Why aliases and usage cannot be written."""
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
                kind=self.kind,
                state=ModelState.READY if self.loaded else ModelState.ABSENT,
                created=1_700_000_000,
                aliases=tuple(sorted(self.aliases)),
                variant="fake",
                provider="none",
                context_tokens=4096,
                slots=self.max_requests,
                has_chat_template=True,
                tasks=self.tasks,
                labels=LABELS,
                head=self.head,
                mask=MASK,
                languages=("en", "de"),
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

    async def alias(self, alias: str, model: str | None) -> AliasResult:
        check_alias(alias)
        if model not in (None, MODEL):
            raise UnknownModel(f"no model {model!r} here", param="model")
        self.aliases.discard(alias)
        if model is None:
            return AliasResult(model=None, unkept=self.unkept)
        self.aliases.add(alias)
        return AliasResult(model=(await self.models())[0], unkept=self.unkept)

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
            predictor="score",
            preload_top=1,
            models={MODEL: used},
            recommendations=(first,),
            unkept=self.unkept,
        )

    async def read_prompt(self, question: PromptQuestion) -> PromptReading:
        """A token a word: its length, behind a 1 where special ones are added."""
        question.check()
        self._check_known(question.model)
        task = question.task
        if isinstance(task, Generate) and task.suffix is not None:
            raise InvalidParameter("the fake fills no gaps", param="suffix")
        if isinstance(task, Chat):
            text = "\n".join(f"{one.role}: {one.text}" for one in task.messages)
        else:
            text = task.text
        words = text.split()
        if question.add_special and isinstance(task, Generate):
            words = ["^", *words]
        pieces = tuple(word.encode() for word in words) if question.with_pieces else ()
        return PromptReading(text=text, token_ids=tuple(map(len, words)), pieces=pieces)

    async def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        check_tokens(token_ids)
        self._check_known(model)
        return " ".join("x" * min(token, LONGEST_WORD) for token in token_ids)

    async def describe(self, model: str) -> ModelCard:
        self._check_known(model)
        return ModelCard(
            name=MODEL,
            kind="causal-lm",
            architecture="Echo",
            parameters=1_500_000_000,
            source="here",
            licence="none",
            bytes=1000,
            sha256="ab" * 32,
            context_tokens=4096,
            vocab_size=100,
            schemes=("int8",),
            bos_token="<s>",
            eos_token="</s>",
            chat_template="{{ messages }}",
            defaults={"temperature": 0.5},
        )

    def _check_known(self, model: str) -> None:
        if model not in (MODEL, *self.aliases):
            raise UnknownModel(f"no model {model!r} here", param="model")

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
        heard_s = 0.0
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
            if isinstance(request.task, Listen):
                heard_s = await hear(ticket, request.task)
                await self._wait()
            for number, event in enumerate(self._results(request, words)):
                await self._wait()
                if number == self.fail_after:
                    raise NsedgeError("the fake broke off as told")
                ticket.emit(event)
                said += isinstance(event, Delta)
            task = request.task
            n = task.sampling.n if isinstance(task, Generate | Chat | Caption) else 0
            cut = said < len(words) * self.repeat * n
            reason = FinishReason.LENGTH if cut else FinishReason.STOP
            if shown := self.shows.get(asked_text(request.task)):
                called = any(isinstance(event, ToolCallDelta) for event in shown)
                reason = FinishReason.TOOL_CALLS if called else FinishReason.STOP
        except NsedgeError as error:
            ticket.emit(Failed.of(request.request_id, error))
            return
        except asyncio.CancelledError:
            usage = Usage(prompt_tokens=len(words), completion_tokens=said)
            self.end_cancelled(ticket, usage)
            return
        finally:
            self.live.discard(ticket)
        sound_s = float(len(words)) if isinstance(task, Transcribe) else heard_s
        usage = Usage(
            prompt_tokens=len(words),
            completion_tokens=said,
            audio_s=sound_s,
            images=int(isinstance(task, Caption)),
        )
        self._finish(ticket, reason, usage)

    def _results(self, request: Request, words: list[str]) -> Iterator[Event]:
        label, task = request.request_id, request.task
        if isinstance(task, Listen):
            return
        if isinstance(task, Embed):
            for first in range(0, len(task.inputs), ROWS):
                some = task.inputs[first : first + ROWS]
                width = task.dimensions or DIMENSIONS
                data = b"".join(vector(one, width) for one in some)
                yield Vectors(request_id=label, first=first, shape=(len(some), width), data=data)
            return
        if isinstance(task, Transcribe):
            yield from heard(label, task, words)
            return
        if isinstance(task, Classify | Fill | Score):
            yield judged(label, task)
            return
        if isinstance(task, Imagine):
            yield from imagined(request, task)
            return
        if shown := self.shows.get(asked_text(task)):
            yield from (dataclasses.replace(event, request_id=label) for event in shown)
            return
        yield from self._text(label, words, task.sampling)

    def _text(self, label: str, words: list[str], sampling: Sampling) -> Iterator[Event]:
        """What a prompt's words are said as: by several choices word by word in turn."""
        if (count := sampling.prompt_logprobs) is not None:
            told = [likely(number, word, count)[0] for number, word in enumerate(words)]
            told[0] = dataclasses.replace(told[0], logprob=None, rank=None, top=())
            yield PromptLogprobs(request_id=label, first=0, logprobs=tuple(told))
        total = len(words) * self.repeat
        most = min(sampling.max_tokens or total, total)
        for number in range(most):
            word = words[number % len(words)]
            for choice in range(sampling.n):
                yield Delta(
                    request_id=label,
                    seq=number,
                    text=word,
                    token_ids=(number,),
                    logprobs=likely(number, word, sampling.logprobs),
                    choice=choice,
                )
        for choice in range(sampling.n if sampling.n > 1 else 0):
            yield ChoiceFinished(
                request_id=label,
                choice=choice,
                reason=FinishReason.STOP if most == total else FinishReason.LENGTH,
                usage=Usage(prompt_tokens=len(words), completion_tokens=most),
                timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
                cumulative_logprob=None if sampling.logprobs is None else -math.log(2) * most,
            )

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
        task = request.task
        if task.name not in self.tasks:
            raise UnsupportedTask(f"{MODEL} does not {task.name}", param="model")
        if isinstance(task, Embed):
            if task.dimensions is not None and task.dimensions > DIMENSIONS:
                raise InvalidParameter(f"dimensions beyond {DIMENSIONS}", param="dimensions")
            return [str(one) for one in task.inputs]
        if isinstance(task, Listen):
            return []
        if isinstance(task, Classify | Fill | Score):
            return list(task.documents if isinstance(task, Score) else map(str, task.inputs))
        text = asked_text(task)
        if isinstance(task, Generate) and not text and task.suffix is None:
            raise EmptyPrompt("the prompt is empty", param="prompt")
        first, *rest = text.split(" ")
        return [first, *(f" {word}" for word in rest)]
