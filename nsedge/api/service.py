"""Who answers requests, and how it is doing."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from nsedge.api.events import Event, Sink
from nsedge.api.models import (
    AliasResult,
    LoadResult,
    LoadWish,
    ModelInfo,
    ModelStats,
    ResidencyStats,
    UsageReport,
)
from nsedge.api.prompts import ModelCard, PromptQuestion, PromptReading
from nsedge.api.requests import Request
from nsedge.telemetry.histogram import Histogram


class HealthStatus(enum.StrEnum):
    """What the daemon can do now."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether requests are taken, and why not."""

    status: HealthStatus
    version: str
    uptime_s: float
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the daemon is doing."""

    uptime_s: float
    rss_bytes: int
    requests_accepted: int
    models: dict[str, ModelStats]
    residency: ResidencyStats | None = None
    failures: dict[str, int] = field(default_factory=dict)
    """Requests that failed, by error code, whether or not they came as far as a model."""
    connections_refused: int = 0
    """Connections to the core that were turned away for want of descriptors."""
    loop_lag: Histogram | None = None
    """How late the core's event loop came round."""


class Ticket(Protocol):
    """A submitted request, as its submitter holds it."""

    def cancel(self) -> None:
        """End the request wherever it stands. Its terminal event still comes; idempotent."""

    def took(self, event: Event) -> None:
        """The reader has taken `event`. A service ends a stream (slow_consumer) that holds too
        much untaken; a remote one grants the event's bytes as credit anew."""


class Submitter(Protocol):
    """What takes requests."""

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Take a request. Refusals come as `Failed` too: `sink` sees one terminal event, always."""


class Service(Submitter, Protocol):
    """What answers requests: the core in process, a client of it over ZeroMQ, or a fake."""

    async def models(self) -> tuple[ModelInfo, ...]:
        """Every model served here, in memory or on disk."""

    async def health(self) -> Health:
        """Whether requests are taken."""

    async def stats(self) -> Stats:
        """Counters and gauges."""

    async def load(self, wish: LoadWish) -> LoadResult:
        """Have a model in memory. Raises UnknownModel, InsufficientMemory, BundleInvalid, ..."""

    async def unload(
        self, model: str | None, *, drain_s: float | None = None
    ) -> tuple[ModelInfo, ...]:
        """Let a model leave memory, all where None, pinned or not, when what runs has ended; what
        still runs after `drain_s` seconds fails. The models that left. Raises UnknownModel."""

    async def reload(self, model: str) -> ModelInfo:
        """Read a model's bundle anew; what runs ends on the old one. Raises as `load`."""

    async def alias(self, alias: str, model: str | None) -> AliasResult:
        """Give `model` a further name, or take the name away where None; over restarts, where that
        can be written. Raises UnknownModel, InvalidParameter."""

    async def usage(self) -> UsageReport:
        """How models have been used, and which are worth loading."""

    async def read_prompt(self, question: PromptQuestion) -> PromptReading:
        """A prompt as its model would read it, which is loaded as for a request. Raises
        UnknownModel, UnsupportedTask, and what a request with that prompt is refused with."""

    async def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        """The text of some tokens, the names of special ones in it. Raises as `read_prompt`."""

    async def describe(self, model: str) -> ModelCard:
        """What is known of a model from its package. Raises UnknownModel, BundleInvalid."""
