"""What every route of one application shares, and how an answer is given."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from aiohttp import web

from nsedge.api import (
    AnyDelta,
    ChoiceFailed,
    Event,
    Failed,
    Generate,
    ModelInfo,
    ModelState,
    Request,
    Service,
    Sink,
    Started,
    Task,
    Ticket,
)
from nsedge.errors import ConnectionLost, Draining, NotReady, NsedgeError, UnknownModel
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.loop_lag import LoopLag
from nsedge.telemetry.tracing import Tracing
from nsedge.web import http_guard
from nsedge.web.access import API_KEY, CALLER, refuse_exposure
from nsedge.web.answer_stream import StreamEncoder
from nsedge.web.choices import Choice, Choices, Submit
from nsedge.web.chunking import Chunk, Chunker
from nsedge.web.door_settings import DoorSettings
from nsedge.web.errors import Refusal
from nsedge.web.fair_share import FairShare
from nsedge.web.fetching import Fetcher, FetchRules, fetched
from nsedge.web.limits import WebLimits
from nsedge.web.rates import Account, Accounts, Rate
from nsedge.web.stream_writing import cut_off, refuse_failed, write_all
from nsedge.web.traffic import Traffic
from nsedge.web.uploads import AT_ONCE, UploadRoom

ACCOUNT = web.RequestKey("account", Account)
log = logging.getLogger(__name__)
T = TypeVar("T")
Asked = TypeVar("Asked", bound=Task)
_FAILURES = (Failed, ChoiceFailed)
_COMING = {ModelState.WARMING, ModelState.LOADING}
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class UnderWay(Protocol):
    """An answer that is being given."""

    def fail(self, error: NsedgeError) -> None:
        """End it with `error`, wherever it stands."""


class Answering:
    """Asks the core, gives answers, and knows which are under way."""

    def __init__(
        self,
        service: Service,
        limits: WebLimits | None = None,
        *,
        keys: WatchedFile[KeyRing] | None = None,
        settings: DoorSettings | None = None,
        tracing: Tracing | None = None,
        fetcher: Fetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`service` is its owner's to close. keys: who may call; None asks nobody for a key.
        settings: what doors do where a request does not say. fetcher: has what bodies name by a
        URL; None fetches nothing. tracing: takes a span of each request that asks for something to
        be done. clock: monotonic, in seconds.

        Raises:
            ConfigInvalid: where a limit is impossible.
        """
        limits = limits or WebLimits()
        limits.check()
        self.service = service
        self.limits = limits
        self.settings = settings or DoorSettings()
        self.keys = keys
        self.traffic = Traffic(tracing=tracing, clock=clock)
        self.lag = LoopLag(clock=clock)
        self.uploads = UploadRoom(AT_ONCE * limits.max_upload_bytes)
        self._fetcher = fetcher or Fetcher(FetchRules())
        self._clock = clock
        rate = Rate(requests=limits.requests_per_minute, tokens=limits.tokens_per_minute)
        self._accounts = Accounts(rate, clock)
        self._fair_share: FairShare | None = None
        if keys is not None:
            self._fair_share = FairShare(
                service,
                max_at_core=limits.max_in_flight,
                max_waiting=limits.max_waiting,
                clock=clock,
            )
        self.draining = False
        self._labels: set[str] = set()
        self._open: set[UnderWay] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def label(self, http: web.Request) -> Iterator[str]:
        """What the core is to call the request: its id, or where that runs already a name near
        it."""
        wanted = label = http[http_guard.REQUEST_ID]
        while label in self._labels:
            label = f"{wanted}-{secrets.token_hex(4)}"
        self._labels.add(label)
        try:
            yield label
        finally:
            self._labels.discard(label)

    async def ask(self, answer: Awaitable[T]) -> T:
        """What the core answers.

        Raises:
            ConnectionLost: where it says nothing in core_timeout_s.
        """
        try:
            async with asyncio.timeout(self.limits.core_timeout_s):
                return await answer
        except TimeoutError as error:
            raise ConnectionLost(
                f"the core did not answer within {self.limits.core_timeout_s:g} s"
            ) from error

    async def model(
        self, name: str | None, *, task: str = Generate.name, kind: str | None = None
    ) -> ModelInfo:
        """The model of that name or alias; unnamed, of those that do `task` (and are of a `kind`)
        the first that is ready, or else the first that a request can bring into memory.

        Raises:
            UnknownModel, NotReady: where there is none.
        """
        models = await self.ask(self.service.models())
        if name is not None:
            for model in models:
                if name == model.name or name in model.aliases:
                    return model
            raise UnknownModel(f"no model {name!r} is served here", param="model")
        for states in ({ModelState.READY}, _COMING, {ModelState.ABSENT}):
            for model in models:
                if kind is not None and model.kind != kind:
                    continue
                if model.state in states and model.base is None and _does(model, task):
                    return model
        raise NotReady(f"no {kind or 'model'} that does {task} is ready")

    def refuse_exposure(self, host: str, *, tls: bool) -> None:
        """Raises ConfigInvalid where we may not listen at `host` as we are set up."""
        refuse_exposure(
            host,
            keys=self.keys is not None,
            tls=tls,
            anonymous=self.limits.allow_anonymous,
            cleartext=self.limits.allow_cleartext,
        )

    def open_account(self, http: web.Request) -> None:
        """Have the request's key pay for it.

        Raises:
            Refused: where it has had as much as it may.
        """
        account = self._accounts.of(http[CALLER], http.get(API_KEY))
        http[ACCOUNT] = account
        account.open(self._clock())

    def rate_headers(self, http: web.Request) -> dict[str, str]:
        """What the request's key has left; nothing where it has no limit."""
        account = http.get(ACCOUNT)
        return {} if account is None else account.headers(self._clock())

    def submitter(self, http: web.Request) -> Submit:
        """Submits in the name of the request's key: in its turn, and on its account."""
        fair_share, account = self._fair_share, http[ACCOUNT]
        submit: Submit = self.service.submit
        if fair_share is not None:
            submit = functools.partial(fair_share.submit, caller=http[CALLER])
        if not account.rate.tokens:
            return submit

        def metered(request: Request, sink: Sink) -> Ticket:
            def pay(event: Event) -> None:
                if isinstance(event, Started):
                    account.charge(event.prompt_tokens, self._clock())
                elif isinstance(event, AnyDelta):
                    account.charge(len(event.token_ids), self._clock())
                sink(event)

            return submit(request, pay)

        return metered

    def stranger(self, caller: str) -> Submit:
        """Submits in the name of a caller who is asked for no key, and pays for one request.

        Raises:
            Refused: such callers have had as much as they may.
            Draining: we are stopping.
        """
        if self.draining:
            raise Draining("the server is stopping")
        self._accounts.of(caller, None).open(self._clock())
        if self._fair_share is None:
            return self.service.submit
        return functools.partial(self._fair_share.submit, caller=caller)

    async def whole(self, http: web.Request, requests: Sequence[Request]) -> list[Choice]:
        """The answer in one piece.

        Raises:
            Refused: where a request failed.
        """
        choices = self._choices(http, await self._whole(http, requests))
        with self.holding(choices):
            async with choices:
                return await choices.collect()

    async def each(
        self, http: web.Request, requests: Sequence[Request], *, at_once: int | None = None
    ) -> list[Choice | Refusal]:
        """The answers of requests that stand apart: no failure ends another. `at_once`: how many
        run; None is as many as may."""
        fetched = await self._whole(http, requests)
        choices = self._choices(http, fetched, at_once=at_once, apart=True)
        with self.holding(choices):
            async with choices:
                return await choices.collect_each()

    async def stream(
        self,
        http: web.Request,
        requests: Sequence[Request],
        encoder: StreamEncoder,
        *,
        chunk: Chunk | None = None,
        at_once: int | None = None,
        apart: bool = False,
    ) -> web.StreamResponse:
        """The answer as a stream. The first event decides between a refusal and a stream, or the
        first silence, where the stream can fill it.

        - chunk: how its text is cut; None is as the settings have it.
        - at_once: how many requests run; None is as many as may.
        - apart: no failure ends another request, or is a refusal.

        Raises:
            Refused: where a request failed before any byte was written.
        """
        fetched = await self._whole(http, requests)
        choices = self._choices(http, fetched, at_once=at_once, apart=apart)
        with self.holding(choices):
            async with choices:
                framing = encoder.framing
                choices.watch(
                    keepalive_s=self.limits.keepalive_s if framing.comment else math.inf,
                    write_timeout_s=self.limits.write_timeout_s,
                    cut=lambda: cut_off(http),
                )
                batch = await choices.batch()
                if not apart:
                    refuse_failed(batch)
                response = web.StreamResponse(
                    headers={"Content-Type": framing.content_type, **_STREAM_HEADERS}
                )
                await response.prepare(http)
                chunker = Chunker(chunk or self.settings.chunk)
                await write_all(response, choices, encoder, chunker, batch)
                return response

    async def fetched(self, http: web.Request, task: Asked) -> Asked:
        """`task` with what is elsewhere in its place. Raises NsedgeError, by the place."""
        take = functools.partial(self.uploads.take, http)
        return await fetched(task, self._fetcher, take, caller=http[CALLER])

    async def _whole(self, http: web.Request, requests: Sequence[Request]) -> list[Request]:
        """The requests with all that they name."""
        return [dataclasses.replace(r, task=await self.fetched(http, r.task)) for r in requests]

    def _choices(
        self,
        http: web.Request,
        requests: Sequence[Request],
        *,
        at_once: int | None = None,
        apart: bool = False,
    ) -> Choices:
        trace = http.get(http_guard.TRACEPARENT)
        traced = [dataclasses.replace(request, traceparent=trace) for request in requests]
        most = min(at_once or self.limits.max_in_flight, self.limits.max_in_flight)
        return Choices(_naming(http, self.submitter(http)), traced, at_once=most, apart=apart)

    @property
    def under_way(self) -> int:
        """Answers that are being given."""
        return len(self._open)

    async def drain(self) -> None:
        """Take nothing new; let what runs end within drain_s, then end it with an error."""
        self.draining = True
        try:
            async with asyncio.timeout(self.limits.drain_s):
                await self._idle.wait()
        except TimeoutError:
            for answer in list(self._open):
                answer.fail(Draining("the server is stopping"))

    def charge(self, http: web.Request) -> None:
        """Have the key of `http` pay for one more request, on a connection that brings several.

        Raises:
            Refused: where it has had as much as it may.
            Draining: we are stopping.
        """
        if self.draining:
            raise Draining("the server is stopping")
        http[ACCOUNT].open(self._clock())

    @contextmanager
    def holding(self, answer: UnderWay) -> Iterator[None]:
        """Count `answer` among those that are being given: stopping waits for it, and ends it."""
        self.begin(answer)
        try:
            yield
        finally:
            self.end(answer)

    def begin(self, answer: UnderWay) -> None:
        """An answer begins."""
        self._open.add(answer)
        self._idle.clear()

    def end(self, answer: UnderWay) -> None:
        """It has ended; harmless where it had."""
        self._open.discard(answer)
        if not self._open:
            self._idle.set()


ANSWERING = web.AppKey("answering", Answering)


def _naming(http: web.Request, submit: Submit) -> Submit:
    """`submit`, whose failures name parameters as the body of `http` does."""
    if http_guard.FIELD_NAMES not in http:
        return submit

    def naming(request: Request, sink: Sink) -> Ticket:
        def tell(event: Event) -> None:
            sink(http_guard.renamed(http, event) if isinstance(event, _FAILURES) else event)

        return submit(request, tell)

    return naming


def _does(model: ModelInfo, task: str) -> bool:
    """Whether it is known to do that; those that tell no tasks write text."""
    return task in (model.tasks or (Generate.name,))
