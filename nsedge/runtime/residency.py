"""Which bundles are resident, and where they run."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from nsedge import native
from nsedge.api import ModelInfo, ModelState, ModelStats
from nsedge.bundle import Bundle, Variant
from nsedge.errors import BundleInvalid, DeviceUnavailable
from nsedge.runtime import memory, trust
from nsedge.runtime.cores import CpuMeter, usable_cores
from nsedge.runtime.detokenizer import Detokenizer
from nsedge.runtime.elastic import Elastic
from nsedge.runtime.engine import Deliver, Engine, StepRunner
from nsedge.runtime.executor import Executor, Source
from nsedge.runtime.executors import open_executor
from nsedge.runtime.prompt import PromptReader
from nsedge.runtime.sampler import Sampler
from nsedge.runtime.scheduler import Policy, Scheduler
from nsedge.runtime.session import can_run
from nsedge.runtime.settings import Device, EngineSettings, PrefixReuse
from nsedge.runtime.slots import Slots
from nsedge.runtime.threads import FOLLOW_FROM, ThreadChoice

log = logging.getLogger(__name__)


class Resident:
    """A bundle in memory, with its engine."""

    def __init__(
        self,
        *,
        bundle: Bundle,
        variant: Variant,
        settings: EngineSettings,
        deliver: Deliver,
        clock: Callable[[], float],
    ) -> None:
        """Load `variant` and warm it up; the engine does not run yet.

        Raises:
            BundleInvalid: where a file cannot be loaded.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        manifest = bundle.manifest
        self.manifest = manifest
        self.variant = variant
        self.capacity = min(manifest.context_length, settings.context_tokens)
        self._slots = settings.slots
        tokenizer = _open_tokenizer(bundle)
        self.prompts = PromptReader(bundle, tokenizer)
        self.detokenizer = Detokenizer(tokenizer)
        threads = settings.threads or usable_cores()
        self.executor = open_executor(
            Source(
                graph=bundle.file(variant.graph),
                variant=variant,
                vocab_size=manifest.vocab_size,
                slots=settings.slots,
                capacity=self.capacity,
                threads=threads,
                scales=None if variant.kv.scales is None else bundle.file(variant.kv.scales),
            )
        )
        self.executor.warm_up()
        runner: StepRunner = self.executor
        if variant.device == "cpu" and threads >= FOLLOW_FROM and not settings.threads:
            runner = follow_cores(
                self.executor, graph=bundle.file(variant.graph), threads=threads, clock=clock
            )
        self.engine = Engine(
            runner=runner,
            scheduler=Scheduler(
                slots=Slots(count=settings.slots, contiguous=variant.io.segments is None),
                policy=Policy(
                    max_waiting=settings.max_queue,
                    chunk_tokens=settings.prefill_chunk_tokens,
                    prefix_reuse=reuse_of(variant, settings.prefix_reuse),
                    stretch=settings.step_stretch,
                    burst_s=settings.burst_s,
                    drafts=variant.io.prompt is None,
                    mixed=variant.io.segments is not None,
                ),
            ),
            sampler=Sampler(end_ids=manifest.eos_token_ids),
            deliver=deliver,
            clock=clock,
            name=f"engine-{manifest.name}",
        )

    def info(self) -> ModelInfo:
        """What clients are told."""
        created = datetime.datetime.fromisoformat(self.manifest.provenance.created)
        return ModelInfo(
            name=self.manifest.name,
            kind=self.manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self.variant.name,
            provider=self.executor.provider,
            context_tokens=self.capacity,
            slots=self._slots,
            has_chat_template=self.manifest.chat_template is not None,
        )

    def stats(self) -> ModelStats:
        """What the engine did and does."""
        return self.engine.stats(slots=self._slots, capacity=self.capacity)


def follow_cores(
    executor: Executor, *, graph: Path, threads: int, clock: Callable[[], float]
) -> Elastic:
    """`executor`, which runs `graph` with `threads` threads, with fewer where cores are taken."""
    weights = sum(file.stat().st_size for file in graph.parent.iterdir())

    def affordable() -> bool:
        room = memory.available()
        return room is None or room > 2 * weights

    return Elastic(
        executor,
        choice=ThreadChoice(most=threads),
        free=CpuMeter().free,
        clock=clock,
        affordable=affordable,
    )


def load(
    path: Path, *, settings: EngineSettings, deliver: Deliver, clock: Callable[[], float]
) -> Resident:
    """Open the bundle at `path` and make it resident.

    Raises:
        BundleInvalid: where the bundle is damaged, altered, or not signed as it must be.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    bundle = trust.open_signed(path, settings.signers)
    variant = choose_variant(bundle.manifest.variants, settings.device, bundle.manifest.name)
    trust.verify(bundle, variant)
    return Resident(bundle=bundle, variant=variant, settings=settings, deliver=deliver, clock=clock)


def reuse_of(variant: Variant, wanted: PrefixReuse) -> PrefixReuse:
    """What may be reused. Our own operators compute a token alike, whether it is read or decoded,
    so that with them output is as exact as prompts are. A cache with fixed scales keeps a prompt
    less exactly than it was read."""
    if wanted is not PrefixReuse.EXACT:
        return wanted
    if variant.kv.scales is not None:
        return PrefixReuse.OFF
    return PrefixReuse.FULL if native.REQUIREMENT in variant.requires else wanted


def choose_variant(variants: tuple[Variant, ...], device: Device, name: str) -> Variant:
    """The first variant for `device` that runs here; never one for another device instead.

    Raises:
        DeviceUnavailable: saying what the bundle has and what was wanted.
    """
    wanted = [v for v in variants if device is Device.AUTO or v.device == device]
    for variant in wanted:
        if not can_run(variant.device):
            continue
        lacking = native.missing(variant.requires)
        if lacking is None:
            return variant
        log.warning("%s: variant %s is passed over: %s", name, variant.name, lacking)
    has = ", ".join(f"{v.name} ({v.device})" for v in variants)
    raise DeviceUnavailable(
        f"no variant of {name} runs on device {device.value!r} here; the bundle has {has}"
    )


def _open_tokenizer(bundle: Bundle) -> Tokenizer:
    path = bundle.file(bundle.manifest.tokenizer.file)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise BundleInvalid(f"{path}: {error}") from error
