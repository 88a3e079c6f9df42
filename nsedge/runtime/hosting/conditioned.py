"""What all models have in common whose decoder attends to an encoder's memory: what they are opened
to, their engine, and what they hold."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

import numpy as np

from nsedge import native
from nsedge.api import ModelInfo, ModelMemory, ModelState, ModelStats
from nsedge.bundle.caption import Caption
from nsedge.bundle.conditioning import ConditionedVariant
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import Speech
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.delivery import Deliver
from nsedge.runtime.graph.conditioning import Memory
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.graph.memory_writer import MemoryWriter
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.hosting.text import context_bytes
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.hosting.warming import largest_steps
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.settings import EngineSettings, PrefixReuse

AnyConditioned = Speech | Caption
M = TypeVar("M", bound=AnyConditioned)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A model that nothing was run on yet; a kind adds what reads its inputs."""

    memory: Memory
    writer: MemoryWriter
    executor: Executor


P = TypeVar("P", bound=Parts)
Told = Callable[[float], None]
"""Hears the share that was read, 0 to 1."""


class ConditionedModel(ABC, Generic[M, P]):
    """A model in memory, with an engine that writes and a loop that has its inputs encoded. A kind
    makes both once this is made."""

    engine: Engine
    loop: WorkLoop[Any]

    def __init__(
        self,
        *,
        bundle: Bundle[M],
        variant: ConditionedVariant,
        host: Host,
        opening: Opening,
        capacity: int,
    ) -> None:
        """Load `variant` with room for `capacity` tokens a row, warm it up and check its golden
        samples; nothing runs yet.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden samples do
                not come.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        self.name = bundle.name
        self.manifest = bundle.manifest
        self.variant = variant
        self.host = host
        self.capacity = capacity
        self.slots = host.settings.slots
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        self.parts = self.open_parts(bundle, lambda share: opening.told(ModelState.LOADING, share))
        opening.told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self._warm_up(bundle)
        self._arena_bytes = growth.take()
        memory.detach(bundle.path)  # nothing that is done to its files reaches it from here on
        self._weights_bytes += growth.take()

    @abstractmethod
    def open_parts(self, bundle: Bundle[Any], told: Told) -> P:
        """Open the graphs, and what reads inputs for them."""

    @abstractmethod
    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Raises BundleInvalid where the golden samples do not come."""

    def _warm_up(self, bundle: Bundle[M]) -> None:
        """Run the largest steps and golden samples; give back the pages that they wrote."""
        plans = largest_steps(
            slots=self.slots,
            capacity=self.capacity,
            chunk_tokens=self.host.settings.prefill_chunk_tokens,
            context_tokens=self.capacity,
        )
        with native.rehearsing():  # memory is all that is wanted of them
            for plan in plans:
                self.parts.executor.run(plan)
        self.check_golden(bundle)
        self.parts.executor.forget_caches()
        self.parts.memory.forget()

    def make_engine(self, *, deliver: Deliver, end_ids: tuple[int, ...], stretch: float) -> Engine:
        """The engine, whose texts `end_ids` end; a step may take `stretch` times its quiet time."""
        settings = self.host.settings
        ragged = self.variant.io.segments is not None
        policy = Policy(
            max_waiting=settings.max_queue,
            chunk_tokens=settings.prefill_chunk_tokens,
            prefix_reuse=PrefixReuse.OFF,  # what a row holds is about one input
            stretch=stretch,
            drafts=False,
            mixed=ragged,
        )
        slots = Slots(count=settings.slots, contiguous=not ragged)
        return Engine(
            runner=self.parts.executor,
            scheduler=Scheduler(slots=slots, policy=policy),
            sampler=Sampler(end_ids=end_ids),
            deliver=deliver,
            clock=self.host.clock,
            turn=self.host.arbiter(self.variant.device).seat(Rank.OTHERS),
            name=f"engine-{self.name}",
        )

    def start(self) -> None:
        """Let engine and loop run."""
        self.engine.start()
        self.loop.start()

    def prompt_reader(self) -> None:
        """None: what it is asked is no prompt."""
        return

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have the engine call `answer` between two steps."""
        self.engine.ask(answer)
        return True

    def close(self) -> None:
        """End both, once nobody uses it."""
        self.loop.stop()
        self.engine.stop()

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds now, and what of that the budget is held to: weights, arena, and at least
        one row of the memory with a full context."""
        kv, about = self.parts.executor.kv_bytes(), self.parts.memory.held()
        held = ModelMemory(
            weights_bytes=self._weights_bytes,
            kv_bytes=kv.resident + about.resident,
            arena_bytes=self._arena_bytes,
            kv_reserved_bytes=kv.reserved + about.reserved,
        )
        least = least_bytes(self.variant, self.capacity)
        return held, Amount(held.weights_bytes + held.arena_bytes + max(held.kv_bytes, least))

    def cache_bytes(self) -> int:
        """What its caches hold of the host's memory; from any thread."""
        return self.parts.executor.kv_bytes().resident + self.parts.memory.held().resident

    def info(self) -> ModelInfo:
        """What clients are told."""
        created = datetime.datetime.fromisoformat(self.manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=self.manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self.variant.name,
            provider=self.parts.executor.provider,
            context_tokens=self.capacity,
            slots=self.slots,
            tasks=self.manifest.tasks,
        )

    def engine_stats(self) -> ModelStats:
        """What the engine did and does."""
        return self.engine.stats(slots=self.slots, capacity=self.capacity)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a model is to be opened with."""

    bundle: Bundle[Any]
    variant: ConditionedVariant
    settings: EngineSettings
    capacity: int

    @property
    def threads(self) -> int:
        """Of each session."""
        return self.settings.threads or usable_cores()

    def check(self, told: Told) -> None:
        """Compare the hashes of all that the variant is made of.

        Raises:
            BundleInvalid: naming the file that was altered.
        """
        encoder = self.bundle.manifest.components.encoder_of(self.variant.name)
        hashes = Hashes(self.bundle, self.variant.graph, told, beside=(encoder.graph,))
        hashes.check_parsed()
        hashes.check_weights()

    def source(
        self,
        memory: Memory,
        *,
        slots: int | None = None,
        graph: str | None = None,
        shares: int | None = None,
    ) -> Source:
        """The decoder, or another `graph` of its form."""
        return Source(
            graph=self.bundle.file(graph or self.variant.graph),
            variant=self.variant,
            vocab_size=self.bundle.manifest.vocab_size,
            slots=slots or self.settings.slots,
            capacity=self.capacity,
            threads=self.threads,
            memory=memory,
            shares=shares,
        )

    def open(self, *, reads: str) -> Parts:
        """Open both graphs; the encoder calls its input `reads`.

        Raises:
            BundleInvalid: one cannot be loaded.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        encoder = self.bundle.manifest.components.encoder_of(self.variant.name)
        about = Memory(self.variant.memory, rows=self.settings.slots)
        return Parts(
            memory=about,
            executor=open_executor(self.source(about)),
            writer=MemoryWriter(
                self.bundle.file(encoder.graph), encoder, about, reads=reads, threads=self.threads
            ),
        )


def variant_of(bundle: Bundle[Any], settings: EngineSettings) -> Any:
    """The variant of the decoder that runs here.

    Raises:
        DeviceUnavailable: where none does.
    """
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    variants = bundle.manifest.components.decoder.variants
    return choose_variant(variants, settings.device, bundle.name, wanted=wanted)


def least_bytes(variant: ConditionedVariant, capacity: int) -> int:
    """One row of the memory, and one full context."""
    about = variant.memory
    kv = about.kv
    frames = -(-about.frames // kv.block_tokens) * kv.block_tokens
    row = 2 * kv.layers * kv.heads * kv.width * frames * np.dtype(kv.dtype).itemsize
    return row + context_bytes(variant, capacity)


def expected(bundle: Bundle[AnyConditioned], settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: twice its files as they
    lie on disk, which a run of the encoder takes, too, and one row with a full context.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest = bundle.manifest
    variant = variant_of(bundle, settings)
    graphs = (variant.graph, manifest.components.encoder_of(variant.name).graph)
    folders = {PurePosixPath(graph).parent for graph in graphs}
    files = manifest.files.items()
    weights = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent in folders)
    return Amount(2 * weights + least_bytes(variant, manifest.context_length))
