"""The vocabulary every room shares: what a client asks, what it sees, and who answers.

A client sends a `Request`; it sees `Event`s: any number of `Loading`s, at most one `Started`, any
number of `Delta`s, and exactly one terminal event, `Finished` or `Failed`. What concerns models
rather than requests is in `nsedge.api.models`, and can be had from here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nsedge.api.models import LoadOutcome as LoadOutcome
from nsedge.api.models import LoadResult as LoadResult
from nsedge.api.models import LoadWish as LoadWish
from nsedge.api.models import ModelInfo as ModelInfo
from nsedge.api.models import ModelMemory as ModelMemory
from nsedge.api.models import ModelState as ModelState
from nsedge.api.models import ModelStats as ModelStats
from nsedge.api.models import ModelTimes as ModelTimes
from nsedge.api.models import ModelUsage as ModelUsage
from nsedge.api.models import Recommendation as Recommendation
from nsedge.api.models import ResidencyStats as ResidencyStats
from nsedge.api.models import UsageReport as UsageReport
from nsedge.api.models import check_keep_alive
from nsedge.api.priority import Priority as Priority
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.telemetry.histogram import Histogram as Histogram

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
MAX_LOGIT_BIAS = 1024
MAX_SEED = 2**64 - 1
MAX_DEADLINE_S = 1e9


class Role(enum.StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt:
    """Text to continue as it stands: no template is applied."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A conversation, rendered with the bundle's chat template; the assistant speaks next."""

    messages: tuple[Message, ...]


Prompt = TextPrompt | ChatPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose tokens and when to end. `None`: the bundle's default, then the neutral one.

    Order of application: logit_bias, repetition, presence and frequency penalties, then
    temperature, top_k, top_p and min_p, each on what the one before left.

    - temperature: 0 is greedy; at most 10.
    - top_k: candidates kept; 0 is off.
    - top_p: smallest nucleus whose probability reaches it (arXiv 1904.09751); 0 is the likeliest
      token alone, 1 is off.
    - min_p: tokens below this share of the best token's probability are dropped; 0 is off.
    - repetition_penalty: seen logits are divided (positive) or multiplied (negative) by it
      (arXiv 1909.05858); prompt and output count. presence_penalty and frequency_penalty are
      subtracted, once and per occurrence, for tokens of the output (OpenAI's convention).
    - logit_bias: token id -> added to its logit, -100 to 100.
    - seed: 0 to 2**64 - 1; the same seed and request give the same text, whatever else runs.
    - stop: strings that end the text and are not part of it.
    - max_tokens: None is as many as the context holds. clip_max_tokens lowers a max_tokens that
      does not fit instead of refusing the request; `Finished.clipped_max_tokens` tells the value.
    - min_tokens: end-of-sequence and stop strings are ignored before it.
    - prompt_lookup: guess tokens from what followed the same ones before, and check several in a
      step, where that is faster: extraction and editing gain by it. The text stays the same but for
      rounding.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    clip_max_tokens: bool = False
    prompt_lookup: bool = False

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        _within("temperature", self.temperature, 0.0, 10.0)
        _within("top_k", self.top_k, 0, 2**31 - 1)
        _within("top_p", self.top_p, 0.0, 1.0)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("repetition_penalty", self.repetition_penalty, 0.0, 10.0, exclusive_low=True)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _within("seed", self.seed, 0, MAX_SEED)
        _within("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _within("min_tokens", self.min_tokens, 0, 2**31 - 1)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidParameter(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}",
                param="min_tokens",
            )
        _within("the number of stop strings", len(self.stop), 0, MAX_STOP_STRINGS, param="stop")
        for text in self.stop:
            _within("a stop string's length", len(text), 1, MAX_STOP_LENGTH, param="stop")
        _within("logit_bias entries", len(self.logit_bias), 0, MAX_LOGIT_BIAS, param="logit_bias")
        for token, bias in self.logit_bias.items():
            _within(f"logit_bias[{token}]", bias, -100.0, 100.0, param="logit_bias")


def _within(
    name: str,
    value: float | None,
    low: float,
    high: float,
    *,
    exclusive_low: bool = False,
    param: str | None = None,
) -> None:
    if value is None:
        return
    above = value > low if exclusive_low else value >= low
    if not (above and value <= high):  # false for NaN, too
        bounds = f"{'above' if exclusive_low else 'at least'} {low} and at most {high}"
        raise InvalidParameter(f"{name} must be {bounds}, not {value}", param=param or name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing to generate. `request_id` is the client's own label, echoed in every event.

    `deadline_s`: seconds from admission after which the request fails (deadline_exceeded), wherever
    it stands; None is no deadline. `keep_alive_s`: idle seconds after which its model leaves memory
    from then on; infinite is never, 0 at once, None changes nothing. `traceparent`: the
    caller's W3C trace context, for the log and as the parent of the daemon's spans.
    """

    request_id: str
    model: str
    prompt: Prompt
    sampling: Sampling = Sampling()
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    traceparent: str | None = None

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        self.sampling.check()
        if self.deadline_s is not None and not 0.0 < self.deadline_s <= MAX_DEADLINE_S:
            raise InvalidParameter(
                f"deadline_s must be above 0 and at most {MAX_DEADLINE_S:g}, not {self.deadline_s}",
                param="deadline_s",
            )
        check_keep_alive(self.keep_alive_s)


class FinishReason(enum.StrEnum):
    """Why a request ended well."""

    STOP = "stop"
    """The model's end of sequence, or a stop string."""
    LENGTH = "length"
    """max_tokens, or the end of the context."""
    CANCELLED = "cancelled"
    """The client asked, or went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of the prompt and of the output; an end-of-sequence token counts as written."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that did not have to be read, because their KV was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time went, in seconds of the daemon's monotonic clock."""

    queue_s: float
    """From admission to the first prefill chunk."""
    prefill_s: float
    """From there to the first token."""
    decode_s: float
    """From the first token to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """The model is not in memory yet. Comes when the load is queued, moves up, and goes on.

    position: loads that come before; 0 is this model's turn. progress: 0 to 1, of reading it.
    """

    request_id: str
    model: str
    state: ModelState
    position: int
    progress: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The prompt is being read."""

    request_id: str
    prompt_tokens: int
    queue_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of text. `seq` counts deltas from 0; `token_ids` are those since the delta before.

    A piece never ends inside a character, and never holds part of a stop string.
    """

    request_id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The request ended well. `stop` is the stop string met, None for an end-of-sequence token."""

    request_id: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request was refused, or broke off. `figures`: numbers that the message tells, by name."""

    request_id: str | None
    code: str
    message: str
    retryable: bool
    param: str | None = None
    retry_after_s: float | None = None
    figures: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, request_id: str | None, error: NsedgeError) -> Failed:
        """The event that tells `error` to the client of `request_id`."""
        return cls(
            request_id=request_id,
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            param=error.param,
            retry_after_s=error.retry_after_s,
            figures=error.figures,
        )


Event = Loading | Started | Delta | Finished | Failed
Sink = Callable[[Event], None]
"""Takes the events of one request, in order, on the event loop's thread. It never blocks."""


def is_terminal(event: Event) -> bool:
    """Whether nothing follows `event`."""
    return isinstance(event, Finished | Failed)


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


class Service(Protocol):
    """What answers requests: the core in process, a client of it over ZeroMQ, or a fake."""

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Take a request. Refusals come as `Failed` too: `sink` sees one terminal event, always."""

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

    async def alias(self, alias: str, model: str | None) -> ModelInfo | None:
        """Give `model` a further name until the daemon ends, or take the name away where None.
        Raises UnknownModel, InvalidParameter."""

    async def usage(self) -> UsageReport:
        """How models have been used, and which are worth loading."""
