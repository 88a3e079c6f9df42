"""What runs the steps of a model: a session, the KV memory, and the logits that a step leaves."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.conditioning import ConditionedIo
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.conditioning import Placed
from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.speculation import MOST_DRAFTED
from nsedge.runtime.graph.adapted import Adapted
from nsedge.runtime.graph.adapters import AdapterStack
from nsedge.runtime.graph.binding import Binding, Device, HostDevice
from nsedge.runtime.graph.conditioning import Memory, Reader
from nsedge.runtime.graph.cuda import CUDA, CudaDevice
from nsedge.runtime.graph.kv import KvBytes, KvMemory
from nsedge.runtime.graph.media import MediaInput
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.machine import memory

_groups = itertools.count(1)


def _unchanged() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an executor is made of.

    `scales` is the file that the variant's layout names, where there is one. `captures` lets a GPU
    replay decoding as CUDA graphs. `memory` is what an encoder writes to, where the decoder attends
    to one. `shares` is the `group` of an executor of a graph that reads the same weights. `check`
    raises an NsedgeError where the files are no longer what they were, or there is no memory for
    another session: it is called before one is opened.
    """

    graph: Path
    variant: Variant
    vocab_size: int
    slots: int
    capacity: int
    threads: int
    scales: Path | None = None
    captures: bool = False
    memory: Memory | None = None
    shares: int | None = None
    check: Callable[[], None] = _unchanged


@dataclass(frozen=True)
class Sessions:
    """What runs steps: a session, and another with inputs for adapters, where there are some."""

    base: Any
    adapted: Any = None


class Executor(ABC):
    """Runs the steps of one model. Used by one thread at a time."""

    def __init__(self, source: Source) -> None:
        """Open a session and reserve KV memory for `slots` rows of `capacity` tokens.

        Raises:
            DeviceUnavailable: where the variant's provider is not the one in use.
            BundleInvalid: where the graph or the scales cannot be loaded.
        """
        variant = source.variant
        self._io = variant.io
        self.group = source.shares or next(_groups)
        """Of sessions that hold packed weights once."""
        self.also: dict[str, NDArray[np.float32]] = {}
        """Outputs besides the logits that a run is to leave, and where."""
        self._open = partial(
            open_session,
            device=variant.device,
            requires=variant.requires,
            captures=source.captures,
            shares=self.group,
        )
        self._graph = source.graph
        self._check_files = source.check
        self._folder = source.graph.parent
        self._ranges: frozenset[memory.Range] = frozenset()
        self._threads = source.threads
        self._session = self._open(source.graph, threads=source.threads)
        self._adapted: Adapted | None = None
        self._changing = threading.Lock()
        self._device = device_of(variant.device, captures=source.captures)
        self._layout, self._capacity = variant.kv, source.capacity
        self._kv = self._device.memory(variant.kv, rows=source.slots, capacity=source.capacity)
        self._reader: Reader | None = None
        if source.memory is not None and isinstance(variant.io, ConditionedIo):
            self._reader = Reader(memory=source.memory, io=variant.io.memory)
        media = variant.io.media
        self._media = None if media is None else MediaInput(media, self._session)
        self._logits = np.zeros(
            (max(source.slots, MOST_DRAFTED) + 1, source.vocab_size), np.float32
        )

    @property
    def provider(self) -> str:
        """The execution provider really in use."""
        return str(self._session.get_providers()[0])

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        """Copy and exchange what rows hold, in order."""
        for copy in copies:
            match copy:
                case KvCopy(source=source, target=target, tokens=tokens, shared=shared):
                    self._kv.copy(source, target, tokens, shared=shared)
                case KvSwap(first=first, second=second, tokens=tokens):
                    self._kv.swap(first, second, tokens)

    @abstractmethod
    def run(self, plan: StepPlan) -> HostLogits:
        """Run a step whose copies are made; logits [plan.logit_rows, V], valid until the next.

        With a draft there is one row more for each of its guesses.
        """

    def _new_binding(self, session: Any, *, repeats: int | None = None) -> Binding:
        """A binding of a session, which reads no rows of media yet."""
        binding = self._device.binding(session, repeats=repeats)
        if self._media is not None:
            self._media.clear(binding)
        return binding

    def _run(self, binding: Binding, placed: Many[Placed]) -> None:
        """Run a binding once, with rows in the place of tokens where there are some."""
        if self._media is None or not placed:
            binding.run()
            return
        with self._media.fed(binding, placed):
            binding.run()

    def _fetch(self, binding: Binding, logits: NDArray[np.float32]) -> None:
        """Have a run leave `logits` [B, K, V], and what else is wanted."""
        binding.fetch(self._io.logits, logits)
        for name, array in self.also.items():
            binding.fetch(name, array)

    def _room(self, rows: int) -> NDArray[np.float32]:
        """Where so many rows of logits go, [rows, V]: what every step uses, but for one that tells
        more of a prompt."""
        if rows <= len(self._logits):
            return self._logits[:rows]
        return np.empty((rows, self._logits.shape[1]), np.float32)

    def clear(self, row: int, tokens: int) -> None:
        """Zeros for the first `tokens` tokens of a row, or all that it has room for."""
        self._kv.clear(row, min(tokens, self._capacity))

    def reopen(self, threads: int) -> Any:
        """Another session of the same graph, with `threads` threads, for `use`; from any thread.

        Raises:
            BundleInvalid: the files are no longer those that were loaded.
            InsufficientMemory: there is no room for a second session.
        """
        self._check_files()
        session, adapted = self._open(self._graph, threads=threads), self._adapted
        also = None if adapted is None else self._open_adapted(adapted.graph, threads)
        memory.detach(self._folder, self._ranges)
        return Sessions(session, also)

    def use(self, sessions: Sessions, threads: int) -> None:
        """Go on with what `reopen` gave; the caches stay as they are."""
        self._session, self._threads = sessions.base, threads
        with self._changing:
            if self._adapted is not None and sessions.adapted is not None:
                self._adapted = self._adapted.on(sessions.adapted)
        self._unbind()

    # Adapters. These are called from any thread, beside `run`, which looks once a step.

    def open_adapters(self, graph: Path, stack: AdapterStack) -> None:
        """Serve the adapters of `stack` with `graph`, which is the model's own with inputs for
        them; it shares the caches.

        Raises:
            BundleInvalid: where it cannot be loaded or run.
            InsufficientMemory: there is no room for another session.
        """
        self._check_files()
        session = self._open_adapted(graph, self._threads)
        memory.detach(self._folder, self._ranges)
        adapted = Adapted(graph=graph, session=session, stack=stack)
        logits = np.zeros((2, self._logits.shape[1]), np.float32)
        try:
            self._try(adapted, self._device.memory(self._layout, rows=1, capacity=2), logits)
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            raise BundleInvalid(f"{graph} cannot be run: {error}") from error
        if not np.isfinite(logits).all() or not logits.any(axis=1).all():
            raise BundleInvalid(f"{graph} gives logits that are no numbers")
        with self._changing:
            self._adapted = adapted.on(session)

    def use_adapters(self, stack: AdapterStack) -> None:
        """Serve the adapters of `stack` from now on."""
        with self._changing:
            if self._adapted is not None:
                self._adapted = self._adapted.with_stack(stack)

    def close_adapters(self) -> None:
        """Serve none any more."""
        with self._changing:
            self._adapted = None
        memory.trim()

    def _open_adapted(self, graph: Path, threads: int) -> Any:
        return self._open(graph, threads=threads, weights=self._folder)

    @abstractmethod
    def _try(self, adapted: Adapted, cache: KvMemory, logits: NDArray[np.float32]) -> None:
        """Read two tokens into `cache`, the first of them through an adapter where a run can be
        of both; logits [2, V] after each."""

    def recover(self) -> None:
        """Leave nothing of a run that failed: empty caches, and another session where one can be
        had; raises what `reopen` does."""
        self.forget_caches()
        self.use(self.reopen(self._threads), self._threads)

    def detach(self) -> None:
        """Hold in memory of its own what a step reads of the model's files, once steps of every
        kind have been run: nothing that is done to the files reaches it then.

        Raises:
            MemoryError: there is none for it.
        """
        self._ranges = memory.detach(self._folder)

    def kv_bytes(self) -> KvBytes:
        """What the caches take; from any thread."""
        held = [cache.held() for cache in self._caches()]
        return KvBytes(
            resident=sum(one.resident for one in held),
            reserved=sum(one.reserved for one in held),
            device=sum(one.device for one in held),
        )

    def forget_caches(self) -> None:
        """Give the caches' memory back, with all that is in them."""
        for cache in self._caches():
            cache.forget()

    def _caches(self) -> list[KvMemory]:
        return [self._kv]

    @abstractmethod
    def _unbind(self) -> None:
        """Forget the bindings of the last session."""


def device_of(name: str, *, captures: bool) -> Device:
    """Where a variant for the device `name` runs."""
    return CudaDevice(captures=captures) if name == CUDA else HostDevice()
