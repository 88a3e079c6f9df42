"""What all models have in common that read texts, or pictures, in one pass: the variant that runs
here, the loop, and what they hold."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from pathlib import PurePosixPath
from typing import Any, Generic, Protocol, TypeVar

from nsedge.api import Media, ModelInfo, ModelState, ModelStats, Request
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.fields import AnyVariant
from nsedge.bundle.headed import HeadedEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.delivery import Emit
from nsedge.runtime.encode.loop import BatchLimits, BatchRunner, EncodeLoop
from nsedge.runtime.encode.work import EncodeWork
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.cacheless import CachelessModel
from nsedge.runtime.hosting.hosted import Host, Opening, Work
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.settings import EngineSettings

MAX_ROWS = 256
"""Inputs of one batch."""


class Session(BatchRunner, Protocol):
    """A graph that is open."""

    @property
    def provider(self) -> str:
        """The execution provider in use."""


AnyEncoder = Encoder | HeadedEncoder | DualEncoder
M = TypeVar("M", bound=AnyEncoder, covariant=True)
S = TypeVar("S", bound=Session)


class EncodeModel(CachelessModel, ABC, Generic[M, S]):
    """A model in memory that runs in an encode loop."""

    _loop: EncodeLoop

    most_waiting = 1 << 31
    """Inputs that may wait, whatever the settings say."""

    def __init__(
        self, *, bundle: Bundle[M], variant: AnyVariant, host: Host, opening: Opening
    ) -> None:
        """Load `variant`, warm it up and check its golden samples; the loop does not run yet.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden samples do
                not come.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        settings = host.settings
        self.name = bundle.name
        self.manifest = bundle.manifest
        self.variant = variant
        self.host = host
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        hashes = Hashes(
            bundle, variant.graph, lambda share: opening.told(ModelState.LOADING, share)
        )
        hashes.check_parsed()
        hashes.check_weights()
        self.session = self.open_session(bundle, settings.threads or usable_cores())
        opening.told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self.warm_up(settings.embed_batch_tokens)
        self.check_golden(bundle)
        self._arena_bytes = growth.take()
        memory.detach(bundle.path)  # nothing that is done to its files reaches it from here on
        self._weights_bytes += growth.take()
        self._loop = EncodeLoop(
            runner=self.session,
            limits=BatchLimits(
                tokens=settings.embed_batch_tokens,
                rows=MAX_ROWS,
                waiting=min(self.most_waiting, settings.max_queue),
            ),
            seat=host.arbiter(variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"encoder-{bundle.name}",
        )

    @abstractmethod
    def open_session(self, bundle: Bundle[Any], threads: int) -> S:
        """Open the graph, and what reads texts for it."""

    @abstractmethod
    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Raises BundleInvalid where the golden samples do not come."""

    @abstractmethod
    def input_of(self, ids: list[int]) -> Any:
        """What the session takes of a text with these tokens, to be warmed up."""

    @abstractmethod
    def work_of(self, request: Request, submitted_s: float) -> EncodeWork:
        """Read a request's inputs; on a reader's thread. Raises why it is refused."""

    def warm_up(self, tokens: int) -> None:
        """Run the largest batches, so that the session's memory is as large as it gets."""
        for length in {min(self.manifest.context_length, tokens), 16}:
            rows = min(MAX_ROWS, max(1, tokens // length))
            list(self.session.run([self.input_of([self.manifest.pad_token_id] * length)] * rows))

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Work:
        """Read the inputs, and queue them."""
        inputs = getattr(request.task, "inputs", ())
        seen = any(isinstance(one, Media) for one in inputs)
        work = Accepted(
            host=self.host,
            reader=self.host.media_reader if seen else self.host.reader,
            request=request,
            emit=emit,
            make=lambda: self.work_of(request, submitted_s),
            queue=lambda job: self._loop.submit(job, emit),
            cancel=self._loop.cancel,
        )
        work.begin()
        return work

    def info(self) -> ModelInfo:
        """What clients are told."""
        manifest = self.manifest
        created = datetime.datetime.fromisoformat(manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self.variant.name,
            provider=self.session.provider,
            context_tokens=manifest.context_length,
            slots=MAX_ROWS,
            tasks=manifest.tasks,
            dimensions=getattr(manifest, "dimensions", None),
            labels=getattr(manifest, "labels", ()),
            head=getattr(manifest, "head_kind", None),
            mask=getattr(manifest, "mask", None),
        )

    def stats(self) -> ModelStats:
        """What the loop did and does."""
        return self._loop.stats()


def wanted_variant(bundle: Bundle[AnyEncoder], settings: EngineSettings) -> Any:
    """The variant that runs here.

    Raises:
        DeviceUnavailable: where there is none.
    """
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    manifest = bundle.manifest
    variants: tuple[Any, ...] = manifest.variants
    if isinstance(manifest, DualEncoder):
        variants = manifest.components.text.variants
    return choose_variant(variants, settings.device, bundle.name, wanted=wanted)


def expected(bundle: Bundle[AnyEncoder], settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: its files as they lie on
    disk, and as much again.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest = bundle.manifest
    variant = wanted_variant(bundle, settings)
    folder = PurePosixPath(variant.graph).parent
    files = manifest.files.items()
    size = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent == folder)
    return Amount(2 * size) if variant.device == "cpu" else Amount(0, 2 * size)
