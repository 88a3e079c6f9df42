"""How a model sees: its encoder's loop, what that made of pictures before, and how they stand in
prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nsedge.api import Request
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import GOLDEN_PICTURES, GoldenPicture, VisionLm
from nsedge.runtime.delivery import Emit
from nsedge.runtime.encode.loop import BatchLimits, EncodeLoop
from nsedge.runtime.encode.row_cache import RowCache, name_of
from nsedge.runtime.encode.rows import Picture, Pieces
from nsedge.runtime.encode.sight_work import GoOn, SightWork
from nsedge.runtime.graph.image_encoders import open_image_encoder
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.sight import Shown, Sight
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.levels import pattern
from nsedge.runtime.vision.shown import PromptPictures

MOST_WAITING = 1024
"""Pictures, since they wait decoded: 350 MB at 336 x 336 pixels."""
MAX_ROWS = 64
"""Pictures of one batch."""


def sight_of(manifest: VisionLm, pictures: PromptPictures) -> Sight:
    """How pictures stand in the prompts of a model."""
    prompt = manifest.processors.prompt
    return Sight(
        marker=prompt.marker,
        token=prompt.token,
        token_id=prompt.token_id,
        written=pictures.written,
        film=pictures.film,
    )


def pictures_of(manifest: VisionLm, settings: EngineSettings) -> PromptPictures:
    """What reads the pictures of a model's prompts."""
    told = manifest.processors
    return PromptPictures(
        told.pictures,
        told.prompt,
        told.film,
        max_pixels=settings.max_picture_pixels,
        films=FilmLimits(
            frames=settings.max_video_frames,
            seconds=settings.max_video_s,
            decode_s=settings.video_decode_s,
            max_pixels=settings.max_picture_pixels,
        ),
        context=min(manifest.context_length, settings.context_tokens),
    )


class Eyes:
    """The encoder of one model, open; what it made of pictures is kept within a budget."""

    def __init__(
        self,
        bundle: Bundle[VisionLm],
        variant: Variant,
        host: Host,
        *,
        reader: PromptPictures,
    ) -> None:
        """Open the encoder beside a decoder's variant, warm it up, and check its golden pictures.

        Raises:
            BundleInvalid: it cannot be loaded, or does not make what it should.
        """
        manifest, settings = bundle.manifest, host.settings
        encoder, pictures = manifest.image_encoder(variant), manifest.processors.pictures
        self._session = open_image_encoder(
            bundle.file(encoder.graph),
            encoder,
            pictures=pictures,
            hidden=manifest.hidden_size,
            threads=settings.threads or usable_cores(),
        )
        self.cache = RowCache(most_bytes=settings.picture_cache_bytes)
        self._reader = reader
        batch = min(MAX_ROWS, max(1, settings.embed_batch_tokens // pictures.rows))
        self._session.see([pattern(0, *self._session.size)] * batch)
        golden = bundle.golden(GOLDEN_PICTURES, GoldenPicture)
        seen = self._session.see([pattern(one.pattern, *self._session.size) for one in golden])
        judge(
            seen.mean(axis=1),
            [one.vector for one in golden],
            variant=encoder,
            name=bundle.name,
            what="pictures",
        )
        self._loop = EncodeLoop(
            runner=self._session,
            limits=BatchLimits(
                tokens=settings.embed_batch_tokens,
                rows=MAX_ROWS,
                waiting=min(MOST_WAITING, settings.max_queue),
            ),
            seat=host.arbiter(encoder.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"eyes-{bundle.name}",
        )

    @property
    def images(self) -> int:
        """Pictures, or pieces of some, that were encoded."""
        return self._loop.stats().images

    def start(self) -> None:
        """Let the loop run."""
        self._loop.start()

    def stop(self) -> None:
        """Cancel what waits, and end the loop."""
        self._loop.stop()

    def work(
        self, request: Request, shown: Sequence[Shown], *, go_on: GoOn, submitted_s: float
    ) -> SightWork:
        """The request's pictures, decoded where no rows are known of them; on a reader's thread.

        Raises:
            InvalidMedia: one is no picture, or damaged.
            MessageTooLarge: one has too many pixels.
        """
        names = [name_of(one.media) for one in shown]
        known, pictures = {}, {}
        for name, one in zip(names, shown, strict=True):
            if name in known or name in pictures:
                continue
            if (rows := self.cache.get(name)) is not None:
                known[name] = rows
            else:
                taken = self._reader.read(one.media)
                pieces = [Picture(one, self._reader.rows(one)) for one in taken.pieces]
                pictures[name] = Pieces(pieces=pieces, order=taken.order)
        return SightWork(
            request=request,
            names=names,
            known=known,
            pictures=pictures,
            go_on=go_on,
            submitted_s=submitted_s,
        )

    def submit(self, work: SightWork, emit: Emit) -> None:
        """Have what is not known yet encoded; where there is nothing, the request goes on."""
        if work.inputs:
            self._loop.submit(work, emit)
        else:
            work.go_on()

    def cancel(self, work: SightWork) -> None:
        """End a request that waits here; nothing where it went on."""
        self._loop.cancel(work)

    def ask(self, answer: Callable[[], None]) -> None:
        """Have the loop call `answer` between two batches."""
        self._loop.ask(answer)
