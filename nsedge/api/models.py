"""What is said of models: where they stand, what they hold, how they are used; and what may be
asked for them. Part of the vocabulary that `nsedge.api` fronts.
"""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass

from nsedge.api.priority import Priority
from nsedge.errors import InvalidParameter
from nsedge.printable import is_printable
from nsedge.telemetry.histogram import Histogram

FOREVER_S = math.inf
"""A keep-alive that never ends."""
MAX_DRAIN_S = 1e9
MAX_NAME = 256
"""Characters of a model's name."""


class ModelState(enum.StrEnum):
    """Where a model stands."""

    LOADING = "loading"
    """Waiting for its turn (`queue_position`), or being read (`progress`)."""
    READY = "ready"
    FAILED = "failed"
    """It could not be loaded; `error` says why. A later request tries again."""
    ABSENT = "absent"
    """On disk only."""
    WARMING = "warming"
    """Read, and run for the first time."""
    DRAINING = "draining"
    """Leaving memory as soon as what runs has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMemory:
    """What a resident model holds, measured.

    - weights_bytes: what memory grew by while it was opened: packed weights, graph, tokeniser.
    - kv_bytes: the pages of its key and value cache that have been written, and rows of pictures
      and sound that are kept.
    - arena_bytes: what memory grew by while it ran its largest steps for the first time.
    - kv_reserved_bytes: what these caches take at most, every slot full; not part of the others.
    - device_bytes: of the cache, what lies in a GPU's own memory.
    """

    weights_bytes: int
    kv_bytes: int
    arena_bytes: int
    kv_reserved_bytes: int
    device_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model this daemon serves. `provider` is the execution provider really in use."""

    name: str
    kind: str
    state: ModelState
    created: int
    """When its bundle was made, in seconds since the Unix epoch."""
    variant: str | None = None
    provider: str | None = None
    context_tokens: int = 0
    """Prompt and output of one request together."""
    slots: int = 0
    """Requests that run at once."""
    has_chat_template: bool = False
    error: str | None = None
    progress: float | None = None
    """0 to 1, while it is being read."""
    queue_position: int | None = None
    """Loads that come before its own, while it waits for one; 0 is its turn."""
    aliases: tuple[str, ...] = ()
    """Further names for it."""
    pinned: bool = False
    """Neither evicted nor unloaded for being idle."""
    in_use: int = 0
    """Requests that hold it."""
    keep_alive_s: float | None = None
    """Idle seconds after which it leaves memory; infinite is never. None: not in memory."""
    memory: ModelMemory | None = None
    load_s: float | None = None
    """How long its last load took."""
    base: str | None = None
    """Of an adapter, the model that it is served from."""
    tasks: tuple[str, ...] = ()
    """What requests may ask of it, by name: generate, chat, embed, classify, ..."""
    dimensions: int | None = None
    """Of a model that makes vectors, the numbers of one."""
    labels: tuple[str, ...] = ()
    """Of a model that gives labels, those there are."""
    head: str | None = None
    """Of an encoder with one: masked-lm, sequence-classification or token-classification."""
    mask: str | None = None
    """Of a model that fills gaps, what stands for one in a text."""
    languages: tuple[str, ...] = ()
    """Of a model that writes what is said, the languages that it knows, by their codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTimes:
    """How long things took, since the model was loaded. Each counts requests that got so far.

    - queue: from admission to the first piece of the prompt.
    - prefill: from there to the first token.
    - first_token: from admission to the first token.
    - inter_token: between two tokens of a request.
    - request: from admission to the end, of those that ended well and were not cancelled.
    - step: a step of the engine, whatever it did.
    """

    queue: Histogram
    prefill: Histogram
    first_token: Histogram
    inter_token: Histogram
    request: Histogram
    step: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """Counters since the model was loaded, and what runs now."""

    running: int
    waiting: int
    slots: int
    kv_tokens_used: int
    kv_tokens_capacity: int
    steps: int
    step_s: float
    """Seconds spent in steps."""
    prompt_tokens: int
    completion_tokens: int
    finished: dict[str, int]
    """Requests ended, by finish reason, or by error code."""
    prefix_query_tokens: int = 0
    """Prompt tokens for which a prefix was looked up."""
    prefix_hit_tokens: int = 0
    """Of those, tokens whose KV was there."""
    preemptions: int = 0
    """Times that a batch request gave its slot to an interactive one."""
    memory: ModelMemory | None = None
    times: ModelTimes | None = None
    texts: int = 0
    """Texts that an encoder has read."""
    images: int = 0
    """Pictures that were looked at, or made."""
    audio_s: float = 0.0
    """Seconds of sound that were heard, of requests that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyStats:
    """Memory in all, and what came and went since the daemon started."""

    used_bytes: int
    """What the budget is held to: weights, arena and KV, at least one full context of it, of every
    resident model."""
    loads: int
    load_failures: int
    evictions: int
    """Models that left for another."""
    idle_unloads: int
    guesses: int
    """Models loaded before anybody asked."""
    guesses_used: int
    """Of those, the ones that somebody then asked for."""
    guesses_wasted: int
    """And the ones that left unused."""
    budget_bytes: int | None = None
    """None where nothing bounds it."""
    device_budget_bytes: int | None = None
    device_used_bytes: int = 0
    load_times: Histogram | None = None
    """Of loads that went well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWish:
    """Asks for a model to be in memory.

    - keep_alive_s: idle seconds after which it leaves again; infinite is never, None its own.
    - pin: keep it, whatever the keep-alive; False takes a pin away, None leaves it as it is.
    - exclusive: unload every other model first that is not pinned.
    - wait: answer when it is ready or has failed, instead of when the load is queued.
    """

    model: str
    priority: Priority = Priority.NORMAL
    keep_alive_s: float | None = None
    pin: bool | None = None
    exclusive: bool = False
    wait: bool = True

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        check_keep_alive(self.keep_alive_s)


class LoadOutcome(enum.StrEnum):
    """What came of a wish to load."""

    LOADED = "loaded"
    ALREADY_LOADED = "already_loaded"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The answer to a `LoadWish`."""

    outcome: LoadOutcome
    model: ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasResult:
    """What came of giving a further name, or of taking it away."""

    model: ModelInfo | None
    """What the name stands for from now on; None: nothing."""
    unkept: str | None = None
    """Why that does not outlast the daemon: what writing it failed for. None: it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """How a model has been used, over restarts of the daemon."""

    usage_count: int
    total_s: float
    """Seconds that its requests took together."""
    last_used_s: float
    """When the last one began, since the Unix epoch."""
    priority_score: float
    """usage_count * max(0.1, 1 - seconds since the last use / 3600)."""
    likelihood: float
    """0 to 1: how likely the predictor holds it to be the next that is asked for."""
    hours: tuple[int, ...]
    """Uses by hour of the day, local time: 24 numbers."""
    followed_by: dict[str, int]
    """Model used next -> how often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A model worth having in memory now, the best first."""

    model: str
    likelihood: float
    priority_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Usage of every model that was ever used, and what is to be loaded before it is asked for."""

    predictor: str
    preload_top: int
    """How many of the recommendations are loaded while the daemon is idle; 0 is none."""
    models: dict[str, ModelUsage]
    recommendations: tuple[Recommendation, ...]
    unkept: str | None = None
    """Why these figures do not outlast the daemon: what writing them failed for last."""


def check_keep_alive(seconds: float | None) -> None:
    """Refuse a keep-alive that is negative or no number.

    Raises:
        InvalidParameter: naming the value.
    """
    if seconds is not None and not seconds >= 0.0:  # false for NaN, too
        raise InvalidParameter(
            f"keep_alive_s must be at least 0, or infinite, not {seconds}", param="keep_alive_s"
        )


def check_alias(alias: str) -> None:
    """Refuse a further name of a model that is none.

    Raises:
        InvalidParameter: it is empty, too long, or would not be read as it is written.
    """
    if not 1 <= len(alias) <= MAX_NAME:
        raise InvalidParameter(f"an alias has 1 to {MAX_NAME} characters", param="alias")
    if not is_printable(alias):
        raise InvalidParameter(f"an alias has no control characters: {alias!a}", param="alias")


def check_drain(seconds: float | None) -> None:
    """Refuse a time to drain that is negative, endless or no number.

    Raises:
        InvalidParameter: naming the value.
    """
    if seconds is not None and not 0.0 <= seconds <= MAX_DRAIN_S:  # false for NaN, too
        raise InvalidParameter(
            f"drain_s must be at least 0 and at most {MAX_DRAIN_S:g}, not {seconds}",
            param="drain_s",
        )


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd]?)+")


def keep_alive_of(value: str | float) -> float:
    """A keep-alive as people and HTTP clients write it, in seconds: a number, `5m`, `1h30m`, `now`,
    `forever`; a negative number is forever, as Ollama's clients have it.

    Raises:
        InvalidParameter: where it is none of these.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("forever", "now"):
            return FOREVER_S if text == "forever" else 0.0
        negative, text = text.startswith("-"), text.removeprefix("-")
        if not _DURATION.fullmatch(text):
            raise InvalidParameter(
                f"keep_alive must be seconds, or such as 5m, now or forever, not {value!r}",
                param="keep_alive",
            )
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
        seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
        return FOREVER_S if negative else seconds
    if math.isnan(value):
        raise InvalidParameter("keep_alive must be a number of seconds", param="keep_alive")
    return FOREVER_S if value < 0 else float(value)
