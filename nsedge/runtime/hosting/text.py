"""Models that write text: the variant that runs here, its engine, and what it holds."""

from __future__ import annotations

import datetime
import functools
import logging
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from nsedge import native
from nsedge.api import ModelInfo, ModelMemory, ModelState, ModelStats, Request
from nsedge.bundle.causal_lm import CausalLm, GoldenPrompt, Variant
from nsedge.bundle.manifest import TextBundle
from nsedge.errors import InsufficientMemory
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.delivery import Emit
from nsedge.runtime.graph.elastic import Elastic
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.hosting import golden, trust
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.addons import Addons
from nsedge.runtime.hosting.admission import make_job, text_task
from nsedge.runtime.hosting.hosted import Host, Opening, Work
from nsedge.runtime.hosting.opening import open_checked
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.hosting.warming import CONTEXT_TOKENS, largest_steps
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import CpuMeter, usable_cores
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.machine.threads import FOLLOW_FROM, ThreadChoice
from nsedge.runtime.settings import EngineSettings, PrefixReuse
from nsedge.runtime.text.answer.grammar import is_held
from nsedge.runtime.text.prompt import PromptReader
from nsedge.runtime.text.sight import Sight

log = logging.getLogger(__name__)


class TextModel:
    """A bundle in memory that writes text: its engine, and what it holds."""

    def __init__(
        self,
        *,
        bundle: TextBundle,
        variant: Variant,
        host: Host,
        opening: Opening,
        sight: Sight | None = None,
    ) -> None:
        """Load `variant`, warm it up and check it; the engine does not run yet. sight: how pictures
        stand in prompts, where it sees.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden prompts are
                not answered.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        manifest, settings, told = bundle.manifest, host.settings, opening.told
        self._host = host
        self.manifest = manifest
        self.name = bundle.name
        self.variant = variant
        self.capacity = min(manifest.context_length, settings.context_tokens)
        self.slots = settings.slots
        graph = bundle.file(variant.graph)
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        threads = settings.threads or usable_cores()
        source = Source(
            graph=graph,
            variant=variant,
            vocab_size=manifest.vocab_size,
            slots=settings.slots,
            capacity=self.capacity,
            threads=threads,
            scales=None if variant.kv.scales is None else bundle.file(variant.kv.scales),
            check=functools.partial(check_reopening, bundle, variant),
        )
        opened = open_checked(
            bundle,
            variant,
            source,
            lambda share: told(ModelState.LOADING, share),
            tool_format=settings.tool_formats.get(bundle.name),
            sight=sight,
        )
        self.executor = opened.executor
        self.prompts, self.detokenizer = opened.prompts, opened.detokenizer
        self.structure = opened.structure
        memory.trim()  # what reading a tokenizer leaves free is twice what it keeps
        told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self._warm_up(settings, bundle.golden("generate", GoldenPrompt)[: golden.PROMPTS])
        self._arena_bytes = growth.take()
        self.executor.detach()
        self._weights_bytes += growth.take()
        self.addons = Addons(bundle=bundle, variant=variant, executor=self.executor)
        runner: StepRunner = self.executor
        if variant.device == "cpu" and threads >= FOLLOW_FROM and not settings.threads:
            runner = follow_cores(self.executor, graph=graph, threads=threads, clock=host.clock)
        self.engine = self._engine(runner)

    def _warm_up(self, settings: EngineSettings, prompts: tuple[GoldenPrompt, ...]) -> None:
        """Run the largest steps and the golden prompts; give back the pages of the cache that they
        wrote."""
        plans = largest_steps(
            slots=settings.slots,
            capacity=self.capacity,
            chunk_tokens=settings.prefill_chunk_tokens,
            # Attention of our own keeps its scratch for itself, and little of it.
            context_tokens=CONTEXT_TOKENS if self.variant.io.segments is None else 0,
        )
        with native.rehearsing():  # memory is all that is wanted of them
            for plan in plans:
                self.executor.run(plan)
        golden.check(
            prompts,
            self.executor,
            variant=self.variant,
            slots=settings.slots,
            capacity=self.capacity,
        )
        self.executor.forget_caches()

    def _engine(self, runner: StepRunner) -> Engine:
        settings = self._host.settings
        policy = Policy(
            max_waiting=settings.max_queue,
            chunk_tokens=settings.prefill_chunk_tokens,
            prefix_reuse=reuse_of(self.variant, settings.prefix_reuse),
            stretch=settings.step_stretch,
            burst_s=settings.burst_s,
            drafts=self.variant.io.prompt is None,
            mixed=self.variant.io.segments is not None,
        )
        slots = Slots(count=settings.slots, contiguous=self.variant.io.segments is None)
        return Engine(
            runner=runner,
            scheduler=Scheduler(slots=slots, policy=policy),
            sampler=Sampler(end_ids=self.manifest.eos_token_ids),
            deliver=self._host.deliver,
            clock=self._host.clock,
            turn=self._host.arbiter(self.variant.device).seat(Rank.STREAMS),
            name=f"engine-{self.name}",
        )

    def start(self) -> None:
        """Let the engine run."""
        self.engine.start()

    def accept(
        self, request: Request, emit: Emit, *, submitted_s: float, adapter: str | None = None
    ) -> Work:
        """Read the prompt and queue it; `adapter` is the key of one that is attached."""

        def make() -> Job:
            return make_job(
                request,
                self,
                prompt_ids=self.prompts.read(text_task(request)),
                submitted_s=submitted_s,
                emit=emit,
                adapter=adapter,
            )

        work = Accepted(
            host=self._host,
            reader=self._host.compiler if is_held(request.task) else self._host.reader,
            request=request,
            emit=emit,
            make=make,
            queue=self.engine.submit,
            cancel=self.engine.cancel,
        )
        work.begin()
        return work

    def prompt_reader(self) -> PromptReader:
        """What reads its prompts."""
        return self.prompts

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have the engine call `answer` between two steps."""
        self.engine.ask(answer)
        return True

    def close(self) -> None:
        """End the engine, once nobody uses it; what it held is free when nobody holds this."""
        self.engine.stop()

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds now, and what of that the budget is held to: weights, arena, and KV, at
        least one full context of it. From any thread; a few milliseconds where the cache is large.
        """
        kv = self.executor.kv_bytes()
        held = ModelMemory(
            weights_bytes=self._weights_bytes + self.addons.session_bytes,
            kv_bytes=kv.resident,
            arena_bytes=self._arena_bytes,
            kv_reserved_bytes=kv.reserved,
            device_bytes=kv.device,
        )
        least = 0 if kv.device else context_bytes(self.variant, self.capacity)
        host = held.weights_bytes + held.arena_bytes + max(kv.resident, least)
        return held, Amount(host, held.device_bytes)

    def cache_bytes(self) -> int:
        """What its caches hold of the host's memory; from any thread."""
        return self.executor.kv_bytes().resident

    def info(self) -> ModelInfo:
        """What clients are told."""
        created = datetime.datetime.fromisoformat(self.manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=self.manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self.variant.name,
            provider=self.executor.provider,
            context_tokens=self.capacity,
            slots=self.slots,
            has_chat_template=self.manifest.has_chat_template,
            tasks=self.manifest.tasks,
        )

    def stats(self) -> ModelStats:
        """What the engine did and does."""
        return self.engine.stats(slots=self.slots, capacity=self.capacity)


def context_bytes(variant: Variant, capacity: int) -> int:
    """Keys and values of one full context."""
    kv = variant.kv
    tokens = -(-capacity // kv.block_tokens) * kv.block_tokens
    return 2 * kv.layers * kv.heads * kv.width * tokens * np.dtype(kv.dtype).itemsize


def wanted_variant(bundle: TextBundle, settings: EngineSettings) -> Variant:
    """The variant that runs here.

    Raises:
        DeviceUnavailable: where there is none.
    """
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    return choose_variant(bundle.manifest.variants, settings.device, bundle.name, wanted=wanted)


def expected(bundle: TextBundle, settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: its files as they lie on
    disk, and one full context of KV.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest = bundle.manifest
    variant = wanted_variant(bundle, settings)
    folder = PurePosixPath(variant.graph).parent
    files = manifest.files.items()
    weights = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent == folder)
    capacity = min(manifest.context_length, settings.context_tokens)
    if variant.device == "cpu":
        return Amount(weights + context_bytes(variant, capacity))
    return Amount(0, weights + settings.slots * context_bytes(variant, capacity))


def follow_cores(
    executor: Executor, *, graph: Path, threads: int, clock: Callable[[], float]
) -> Elastic:
    """`executor`, which runs `graph` with `threads` threads, with fewer where cores are taken."""
    return Elastic(
        executor,
        choice=ThreadChoice(most=threads),
        free=CpuMeter().free,
        clock=clock,
        affordable=lambda: lacking(graph) is None,
    )


def lacking(graph: Path) -> InsufficientMemory | None:
    """Why there is no room for a second session of `graph`; None where there is."""
    need = 2 * sum(file.stat().st_size for file in graph.parent.iterdir())
    room = memory.available()
    if room is None or room > need:
        return None
    return InsufficientMemory(
        f"another session of {graph} needs {need >> 20} MiB; {room >> 20} MiB can be had"
    )


def check_reopening(bundle: TextBundle, variant: Variant) -> None:
    """Whether a second session may be opened of what was loaded once.

    Raises:
        InsufficientMemory: there is no room for it.
        BundleInvalid: a file was altered since, or cannot be read.
    """
    if (error := lacking(bundle.file(variant.graph))) is not None:
        raise error
    trust.verify(bundle, variant.graph)


def load(path: Path, host: Host, opening: Opening | None = None) -> TextModel:
    """Open the bundle at `path`; raises what `open_text` does, and

    Raises:
        BundleInvalid: where the bundle is damaged, or not signed as it must be.
    """
    bundle = trust.open_signed(path, host.settings.signers).of_kind(CausalLm)
    return open_text(bundle, host, opening or Opening())


def open_text(bundle: TextBundle, host: Host, opening: Opening) -> TextModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden prompts are not
            answered.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = wanted_variant(bundle, host.settings)
    with memory.blocks_of_their_own():
        return TextModel(bundle=bundle, variant=variant, host=host, opening=opening)


def reuse_of(variant: Variant, wanted: PrefixReuse) -> PrefixReuse:
    """What may be reused. Our own operators compute a token alike, whether it is read or decoded,
    so that with them output is as exact as prompts are. A cache with fixed scales keeps a prompt
    less exactly than it was read."""
    if wanted is not PrefixReuse.EXACT:
        return wanted
    if variant.kv.scales is not None:
        return PrefixReuse.OFF
    return PrefixReuse.FULL if native.used_by(variant.requires) else wanted
