"""How a model sees and hears: its encoders' loop, what that made of media before, and how these
stand in prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media, Request
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import GOLDEN_PICTURES, GoldenPicture, VisionLm
from nsedge.runtime.delivery import Emit
from nsedge.runtime.encode.loop import BatchLimits, EncodeLoop
from nsedge.runtime.encode.row_cache import RowCache, name_of
from nsedge.runtime.encode.rows import Crop, Picture, Pieces
from nsedge.runtime.encode.sight_work import Floats, GoOn, SightWork
from nsedge.runtime.graph.image_encoders import PictureSession, open_image_encoder
from nsedge.runtime.graph.sound_encoder import SoundEncoderSession
from nsedge.runtime.hosting.ears import PromptSounds, open_ears
from nsedge.runtime.hosting.films import film_limits
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.sight import NUMBER, SOUND, Shown, Sight, told_of
from nsedge.runtime.vision.crops import CropPixels
from nsedge.runtime.vision.levels import pattern
from nsedge.runtime.vision.shown import PromptPictures

MOST_WAITING = 1024
"""Pictures, since they wait decoded: 350 MB at 336 x 336 pixels."""
MAX_ROWS = 64
"""Pictures of one batch."""


@dataclass(frozen=True, kw_only=True)
class Senses:
    """What reads the media of a prompt; `sounds` is None where the model does not hear."""

    pictures: PromptPictures
    sounds: PromptSounds | None

    @classmethod
    def of(cls, bundle: Bundle[VisionLm], settings: EngineSettings) -> Senses:
        """Of a bundle; raises ValueError where the filters for sound are not as it says."""
        hearing = bundle.manifest.hearing
        return cls(
            pictures=pictures_of(bundle.manifest, settings),
            sounds=None if hearing is None else PromptSounds(bundle, hearing),
        )

    def read(self, media: Media, *, beside: bool) -> Pieces:
        """What an encoder takes of a medium; `beside`: its prompt has pictures."""
        if self.sounds is not None and media.kind == SOUND:
            return self.sounds.read(media, beside=beside)
        taken = self.pictures.read(media)
        return Pieces(pieces=[self._piece(one) for one in taken.pieces], order=taken.order)

    def _piece(self, one: NDArray[np.uint8] | CropPixels) -> Picture:
        if isinstance(one, CropPixels):
            return Crop(one.pixels, self.pictures.rows(one.pixels), one.bias, one.places)
        return Picture(one, self.pictures.rows(one))

    def seconds(self, media: Media) -> float:
        """Of sound in a medium."""
        return 0.0 if self.sounds is None or media.kind != SOUND else self.sounds.seconds(media)


@dataclass(frozen=True, kw_only=True)
class _Both:
    """Runs a batch, of pictures or of sounds, on their encoder."""

    image: PictureSession
    sound: SoundEncoderSession | None

    def run(self, rows: Sequence[Any]) -> Sequence[Floats]:
        if self.sound is None or isinstance(rows[0], Picture):
            return list(self.image.run(rows))
        return self.sound.run(rows)


def sight_of(manifest: VisionLm, senses: Senses) -> Sight:
    """How media stand in the prompts of a model."""
    prompt, pictures = manifest.processors.prompt, senses.pictures
    return Sight(
        marker=prompt.marker,
        token=prompt.token,
        token_id=prompt.token_id,
        written=pictures.written,
        film=pictures.film,
        sound=None if senses.sounds is None else senses.sounds.stand(),
        beside="" if NUMBER in prompt.marker else "\n",
    )


def pictures_of(manifest: VisionLm, settings: EngineSettings) -> PromptPictures:
    """What reads the pictures of a model's prompts."""
    told = manifest.processors
    return PromptPictures(
        told.pictures,
        told.prompt,
        told.film,
        max_pixels=settings.max_picture_pixels,
        films=film_limits(settings),
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
        senses: Senses,
    ) -> None:
        """Open the encoders beside a decoder's variant, warm it up, and check its golden pictures.

        Raises:
            BundleInvalid: it cannot be loaded, or does not make what it should.
        """
        self._host = host
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
        self._senses = senses
        # Pictures in sizes of their own are run one by one.
        alone = isinstance(pictures, PatchedPicture)
        batch = 1 if alone else min(MAX_ROWS, max(1, settings.embed_batch_tokens // pictures.rows))
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
        sound = open_ears(bundle, variant, settings)
        self._loop = EncodeLoop(
            runner=_Both(image=self._session, sound=sound),
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
        """The request's media, decoded where no rows are known of them; on a reader's thread.

        Raises:
            InvalidMedia: one is no picture or sound, or damaged.
            MessageTooLarge: one has too many pixels, or is too long.
        """
        names, beside = names_of(shown), sees(shown)
        known, taken = {}, {}
        for name, one in zip(names, shown, strict=True):
            if name in known or name in taken:
                continue
            if (rows := self.cache.get(name)) is not None:
                known[name] = rows
            else:
                with told_of(one.part):
                    taken[name] = self._senses.read(one.media, beside=beside)
        return SightWork(
            request=request,
            names=names,
            known=known,
            taken=taken,
            go_on=go_on,
            submitted_s=submitted_s,
            look=self.cache.get,
            parts={name: one.part for name, one in reversed(list(zip(names, shown, strict=True)))},
        )

    def submit(self, work: SightWork, emit: Emit) -> None:
        """Have what is not known yet encoded; where there is nothing, the request goes on."""
        if work.inputs:
            self._loop.submit(work, emit)
            return
        for event in work.go_on():
            self._host.tell(emit, event)

    def cancel(self, work: SightWork) -> None:
        """End a request that waits here; nothing where it went on."""
        self._loop.cancel(work)

    def ask(self, answer: Callable[[], None]) -> None:
        """Have the loop call `answer` between two batches."""
        self._loop.ask(answer)


def sees(shown: Sequence[Shown]) -> bool:
    """Whether pictures are among the media of a prompt."""
    return any(one.media.kind != SOUND for one in shown)


def names_of(shown: Sequence[Shown]) -> list[str]:
    """What tells the rows of each medium of a prompt from others: those of a sound depend on
    whether there are pictures, too."""
    beside = " beside pictures" if sees(shown) else ""
    return [
        name_of(one.media) + ("" if one.media.kind != SOUND else beside or " alone")
        for one in shown
    ]
