"""A hosted model: what residency keeps in memory and requests are handed to, whatever it does.

The intake, live requests, the service and residency know this and no kind of model. Work begins
with `accept` and ends with exactly one terminal event, whatever happens in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from nsedge.api import (
    Chat,
    Event,
    Generate,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelStats,
    PromptReading,
    Request,
)
from nsedge.runtime.delivery import Deliver, Emit
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Arbiter
from nsedge.runtime.settings import EngineSettings

Told = Callable[[ModelState, float], None]
"""Hears how far a load is: LOADING with the share read, 0 to 1, then WARMING. Any thread."""


class Work(Protocol):
    """A request that a model has taken."""

    def cancel(self) -> None:
        """End it wherever it stands; its terminal event still comes. From any thread; idempotent,
        and harmless once it has ended."""


class Prompts(Protocol):
    """Reads a model's prompts, and makes text of its tokens; on the reader's thread."""

    def reading(
        self, task: Generate | Chat, *, add_special: bool = True, parse_special: bool = True
    ) -> PromptReading:
        """A prompt as it is read. Raises as the model refuses it."""

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens. Raises InvalidParameter for one that the model does not have."""

    def pieces(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each token adds to a text, the names of special ones among it."""


class HostedModel(Protocol):
    """A model in memory. `close` may take a while; the rest does not."""

    def start(self) -> None:
        """Let it work."""

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Work:
        """Take a request, whose task is one that the model does. Its events go to `emit` through
        `Host.deliver`, a refusal as `Failed`; none before this has returned. `submitted_s`: when
        the request was admitted, by `Host.clock`; its deadline counts from then."""

    def prompt_reader(self) -> Prompts | None:
        """What reads its prompts; None where it has none."""

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have `answer` called when the model's own loop next comes round; one that hangs never
        calls it. False where there is no such loop, and no answer will come."""

    def stats(self) -> ModelStats | None:
        """Counters and gauges; None where another model counts for it."""

    def info(self) -> ModelInfo:
        """What clients are told of it."""

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds now, and what of that the budget is held to."""

    def cache_bytes(self) -> int:
        """What its caches hold of the host's memory; from any thread."""

    def close(self) -> None:
        """End it: nobody uses it. What it held is free when nobody holds this any more."""


def to_nobody(state: ModelState, progress: float) -> None:
    """A `Told` that is not heard."""


def nothing() -> int:
    """No bytes."""
    return 0


def _reader() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="read")


def _compiler() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="compile")


def _media_reader() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="media")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What every hosted model is given.

    reader: one thread that reads inputs (templates, tokenisers) so that a long one holds up no
    event loop and no engine. compiler: another, for inputs with a constraint, which take longer.
    media_reader: a third, for inputs with pictures or sound.
    clock: monotonic, in seconds. arbiters: of each device, who runs there next.
    """

    settings: EngineSettings
    deliver: Deliver
    clock: Callable[[], float]
    reader: Executor = field(default_factory=_reader)
    compiler: Executor = field(default_factory=_compiler)
    media_reader: Executor = field(default_factory=_media_reader)
    arbiters: dict[str, Arbiter] = field(default_factory=dict)

    def arbiter(self, device: str) -> Arbiter:
        """The one of a device; on the thread that models are opened on."""
        return self.arbiters.setdefault(device, Arbiter(clock=self.clock))

    def tell(self, emit: Emit, event: Event) -> None:
        """Deliver one event, from any thread."""
        with contextlib.suppress(RuntimeError):  # a closed event loop has nobody left to tell
            self.deliver([(emit, event)])


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A load under way. `told` hears how far it is; `elsewhere` gives the bytes that the caches of
    other models hold, which may grow meanwhile; `base` is the model that an adapter needs."""

    told: Told = to_nobody
    elsewhere: Callable[[], int] = nothing
    base: HostedModel | None = None
