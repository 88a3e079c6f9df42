"""A model whose thread count follows the cores that others leave free.

ONNX Runtime fixes a session's threads when it is opened. Keys and values belong to the executor, so
a session with another count is opened beside the one at work, on a thread of its own, and takes its
place between two steps. Only then are there two; results are the same, bit for bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from collections.abc import Sequence as Many
from concurrent import futures
from typing import Any, Protocol

from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sampling.logits import Logits
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.threads import ThreadChoice

log = logging.getLogger(__name__)

READ_EVERY_S = 0.5


class Reopening(Protocol):
    """A step runner that can go on with another session of the same graph."""

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        """Copy and exchange what rows hold."""
        ...

    def run(self, plan: StepPlan) -> Logits:
        """Logits of a step."""
        ...

    def clear(self, row: int, tokens: int) -> None:
        """Zeros for a row's first tokens."""
        ...

    def reopen(self, threads: int) -> Any:
        """A session with `threads` threads. Slow; called beside `run`."""
        ...

    def use(self, session: Any, threads: int) -> None:
        """Go on with what `reopen` gave for as many threads."""
        ...

    def recover(self) -> None:
        """Go on as if newly opened."""
        ...


class Elastic:
    """Runs steps, and now and then looks whether other threads would do better."""

    def __init__(
        self,
        executor: Reopening,
        *,
        choice: ThreadChoice,
        free: Callable[[], float],
        clock: Callable[[], float],
        affordable: Callable[[], bool],
        opener: futures.Executor | None = None,
    ) -> None:
        """`executor` runs with `choice.threads` threads. `free` gives the cores that others left
        since it was last called, `affordable` whether there is memory for a second session;
        `opener` opens sessions, on a thread of its own if not given."""
        self._executor = executor
        self._choice = choice
        self._free = free
        self._clock = clock
        self._affordable = affordable
        self._next_s = clock() + READ_EVERY_S
        self._threads = choice.threads
        self._opening: tuple[int, futures.Future[Any]] | None = None
        self._opener = opener or futures.ThreadPoolExecutor(1, thread_name_prefix="reopen")

    @property
    def threads(self) -> int:
        """Threads of the session at work."""
        return self._threads

    def run(self, plan: StepPlan) -> Logits:
        """Run a step whose copies are made; its logits [plan.logit_rows, V]."""
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + READ_EVERY_S
            self._follow(now_s)
        return self._executor.run(plan)

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        """Copy and exchange what rows hold, in order."""
        self._executor.copy(copies)

    def clear(self, row: int, tokens: int) -> None:
        """Zeros for the first `tokens` tokens of a row."""
        self._executor.clear(row, tokens)

    def recover(self) -> None:
        """Go on as if newly opened, with as many threads."""
        self._executor.recover()

    def _follow(self, now_s: float) -> None:
        free = self._free()
        wanted = self._choice.take(now_s, free)
        match self._opening:
            case (threads, opened) if opened.done():
                self._opening = None
                self._take_over(threads, opened)
            case None if wanted != self._threads and self._affordable():
                log.info("%.1f cores are free: %d threads from now on", free, wanted)
                self._opening = wanted, self._opener.submit(self._executor.reopen, wanted)

    def _take_over(self, threads: int, opened: futures.Future[Any]) -> None:
        if (error := opened.exception()) is not None:
            log.warning("stays at %d threads from now on", self._threads, exc_info=error)
            self._next_s = math.inf
        elif threads == self._choice.threads:
            self._executor.use(opened.result(), threads)
            self._threads = threads
            memory.trim()
