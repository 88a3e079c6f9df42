"""Models that make vectors of texts: the variant that runs here, its loop, and what it holds."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import PurePosixPath

from nsedge.api import (
    Embed,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelStats,
    Request,
)
from nsedge.bundle.encoder import Encoder, EncoderVariant, GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.delivery import Emit
from nsedge.runtime.encode.embed_work import EmbedWork
from nsedge.runtime.encode.loop import BatchLimits, EncodeLoop
from nsedge.runtime.graph.encoder import EncoderSession
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.hosting.hosted import Host, Opening, Work
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.reader import TextReader

MAX_ROWS = 256
"""Texts of one batch."""

TextEncoder = Bundle[Encoder]


class EncoderModel:
    """An encoder in memory, with its loop."""

    def __init__(
        self, *, bundle: TextEncoder, variant: EncoderVariant, host: Host, opening: Opening
    ) -> None:
        """Load `variant`, warm it up and check its golden vectors; the loop does not run yet.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden vectors do
                not come.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        manifest, settings = bundle.manifest, host.settings
        self.name = bundle.name
        self._manifest = manifest
        self._variant = variant
        self._host = host
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        hashes = Hashes(
            bundle, variant.graph, lambda share: opening.told(ModelState.LOADING, share)
        )
        hashes.check_parsed()
        hashes.check_weights()
        self._session = EncoderSession(
            bundle.file(variant.graph),
            variant,
            threads=settings.threads or usable_cores(),
            pad_id=manifest.pad_token_id,
            dimensions=manifest.dimensions,
        )
        self._reader = TextReader(
            read_tokenizer(bundle.file(manifest.tokenizer.file)),
            context_length=manifest.context_length,
            vocab_size=manifest.vocab_size,
        )
        opening.told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self._warm_up(settings.embed_batch_tokens)
        golden = bundle.golden("embed", GoldenVector)
        vectors = self._session.run([sample.ids for sample in golden])
        judge(vectors, golden, variant=variant, name=bundle.name)
        self._arena_bytes = growth.take()
        self._loop = EncodeLoop(
            runner=self._session,
            limits=BatchLimits(
                tokens=settings.embed_batch_tokens, rows=MAX_ROWS, waiting=settings.max_queue
            ),
            seat=host.arbiter(variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"encoder-{bundle.name}",
        )

    def _warm_up(self, tokens: int) -> None:
        """Run the largest batches, so that the session's memory is as large as it gets."""
        for length in {min(self._manifest.context_length, tokens), 16}:
            rows = min(MAX_ROWS, max(1, tokens // length))
            self._session.run([[self._manifest.pad_token_id] * length] * rows)

    def start(self) -> None:
        """Let the loop run."""
        self._loop.start()

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Work:
        """Read the texts, and queue them."""
        work = Accepted(
            host=self._host,
            reader=self._host.reader,
            request=request,
            emit=emit,
            make=lambda: self._make(request, submitted_s),
            queue=lambda job: self._loop.submit(job, emit),
            cancel=self._loop.cancel,
        )
        work.begin()
        return work

    def prompt_reader(self) -> None:
        """None: it reads texts, and no prompts."""

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have the loop call `answer` between two batches."""
        self._loop.ask(answer)
        return True

    def close(self) -> None:
        """End the loop, once nobody uses it."""
        self._loop.stop()

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds: it has no cache."""
        held = ModelMemory(
            weights_bytes=self._weights_bytes,
            kv_bytes=0,
            arena_bytes=self._arena_bytes,
            kv_reserved_bytes=0,
        )
        return held, Amount(held.weights_bytes + held.arena_bytes)

    def cache_bytes(self) -> int:
        """Nothing."""
        return 0

    def info(self) -> ModelInfo:
        """What clients are told."""
        created = datetime.datetime.fromisoformat(self._manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=self._manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self._variant.name,
            provider=self._session.provider,
            context_tokens=self._manifest.context_length,
            slots=MAX_ROWS,
            tasks=self._manifest.tasks,
            dimensions=self._manifest.dimensions,
        )

    def stats(self) -> ModelStats:
        """What the loop did and does."""
        return self._loop.stats()

    def _make(self, request: Request, submitted_s: float) -> EmbedWork:
        """Read a request's texts; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than vectors.
            InvalidParameter: dimensions that the model does not have, or unknown tokens.
            ContextExceeded: a text is too long.
        """
        task, width = request.task, self._manifest.dimensions
        if not isinstance(task, Embed):
            raise UnsupportedTask(f"an encoder does not {task.name}", param="model")
        if task.dimensions is not None and task.dimensions > width:
            raise InvalidParameter(
                f"dimensions must be at most {width}, not {task.dimensions}", param="dimensions"
            )
        return EmbedWork(
            request=request,
            inputs=self._reader.read(task.inputs, truncate=task.truncate),
            dimensions=task.dimensions or width,
            width=width,
            normalised=self._manifest.normalised,
            submitted_s=submitted_s,
        )


def open_encoder(bundle: TextEncoder, host: Host, opening: Opening) -> EncoderModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden vectors do not
            come.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = _variant(bundle, host.settings)
    return EncoderModel(bundle=bundle, variant=variant, host=host, opening=opening)


def _variant(bundle: TextEncoder, settings: EngineSettings) -> EncoderVariant:
    wanted = settings.variants.get(bundle.name) or settings.variants.get(bundle.manifest.name)
    return choose_variant(bundle.manifest.variants, settings.device, bundle.name, wanted=wanted)


def expected(bundle: TextEncoder, settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: its files as they lie on
    disk, and as much again.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest = bundle.manifest
    variant = _variant(bundle, settings)
    folder = PurePosixPath(variant.graph).parent
    files = manifest.files.items()
    size = sum(entry.bytes for name, entry in files if PurePosixPath(name).parent == folder)
    return Amount(2 * size) if variant.device == "cpu" else Amount(0, 2 * size)
