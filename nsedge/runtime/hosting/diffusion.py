"""Models that make pictures of prompts."""

from __future__ import annotations

import datetime
import hashlib
import secrets

import numpy as np

from nsedge.api import (
    Imagine,
    ModelInfo,
    ModelState,
    ModelStats,
    PictureRecord,
    Request,
)
from nsedge.bundle.diffusion import GoldenImage
from nsedge.bundle.files import MANIFEST_FILE
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.delivery import Emit
from nsedge.runtime.diffusion.registry import begin
from nsedge.runtime.graph.diffusion import Chunk, DiffusionGraphs
from nsedge.runtime.hosting import golden_images
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.cacheless import CachelessModel
from nsedge.runtime.hosting.canvas import ImagineWork, Start, begin_canvas
from nsedge.runtime.hosting.diffusion_graphs import DiffusionBundle, open_graphs, wanted_graphs
from nsedge.runtime.hosting.diffusion_loop import DiffusionLoop
from nsedge.runtime.hosting.hosted import Host, Opening, Work
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.text.prompt_chunks import PromptChunks
from nsedge.runtime.vision.starting import mask_of, pixels_of

MAX_DRAWN_SEED = 2**32
"""Seeds that nobody gave are below: they are told, and easy to copy."""


class DiffusionModel(CachelessModel):
    """A model of pictures in memory, with its loop."""

    _loop: DiffusionLoop

    def __init__(
        self, *, bundle: DiffusionBundle, graphs: DiffusionGraphs, host: Host, opening: Opening
    ) -> None:
        """Load `graphs`, warm them up and check golden samples; the loop does not run yet.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden samples do
                not come.
            DeviceUnavailable: where a graph's provider is not the one in use.
        """
        self.name = bundle.name
        self._manifest = manifest = bundle.manifest
        self._variant = graphs.denoiser
        self._host = host
        self._most_pixels = host.settings.max_image_pixels or manifest.height * manifest.width
        manifest_file = bundle.file(MANIFEST_FILE).read_bytes()
        self._digest = hashlib.sha256(manifest_file).hexdigest()
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        hashes = Hashes(
            bundle,
            graphs.names[0],
            lambda share: opening.told(ModelState.LOADING, share),
            beside=graphs.names[1:],
        )
        hashes.check_parsed()
        hashes.check_weights()
        self._session = open_graphs(bundle, graphs, host.settings)
        self._readers = [
            PromptChunks(read_tokenizer(bundle.file(reading.tokenizer)), reading)
            for reading in manifest.processors.prompts
        ]
        opening.told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self._places = self._warm_up()
        golden_images.check(
            self._session,
            bundle.golden("imagine", GoldenImage),
            variant=self._variant.name,
            name=self.name,
        )
        self._arena_bytes = growth.take()
        memory.detach(bundle.path)  # nothing that is done to its files reaches it from here on
        self._weights_bytes += growth.take()
        self._loop = DiffusionLoop(
            graphs=self._session,
            places=self._places,
            waiting=host.settings.max_queue,
            seat=host.arbiter(self._variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            preview=None if manifest.preview is None else np.array(manifest.preview, np.float32),
            name=f"diffusion-{bundle.name}",
        )

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Work:
        """Read what is asked, and queue it."""
        loop = self._loop
        shows = isinstance(request.task, Imagine) and bool(request.task.media)
        work = Accepted(
            host=self._host,
            reader=self._host.media_reader if shows else self._host.reader,
            request=request,
            emit=emit,
            make=lambda: self._make(request, submitted_s),
            queue=lambda job: loop.submit(job, emit),
            cancel=loop.cancel,
        )
        work.begin()
        return work

    def info(self) -> ModelInfo:
        """What clients are told."""
        manifest = self._manifest
        created = datetime.datetime.fromisoformat(manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self._variant.name,
            provider=self._session.provider,
            context_tokens=manifest.processors.prompts[0].context_length,
            slots=self._host.settings.max_queue,
            tasks=manifest.tasks,
        )

    def stats(self) -> ModelStats:
        """What the loop did and does."""
        return self._loop.stats()

    def _warm_up(self) -> int:
        """Run the largest runs that there will be; places of latents that one may take."""
        manifest, factor = self._manifest, self._manifest.latent_factor
        step = manifest.size_step // factor
        largest = self._most_pixels // factor**2
        own = manifest.height * manifest.width // factor**2
        places = max(2 * largest, self._host.settings.image_batch * own)
        height = max(step, int(largest**0.5) // step * step)
        width = max(step, largest // height // step * step)
        golden_images.rehearse(
            self._session,
            [tuple((one.end_id,) * one.context_length for one in manifest.processors.prompts)],
            rows=max(1, places // (height * width)),
            shape=(self._session.form.channels, height, width),
        )
        return places

    def _make(self, request: Request, submitted_s: float) -> ImagineWork:
        """Read a request; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than pictures.
            InvalidParameter: a value that this model, or this daemon, does not take.
            ContextExceeded: a prompt is too long.
            InvalidMedia: what it goes on from is no picture, or damaged.
            MessageTooLarge: that has too many pixels.
        """
        task = request.task
        if not isinstance(task, Imagine):
            raise UnsupportedTask(f"this model does not {task.name}", param="model")
        record = self._record(task)
        is_guided = record.guidance > 1
        asked = [reader.tokens(task.prompt, "prompt") for reader in self._readers]
        unlike = [
            reader.tokens(task.negative_prompt, "negative_prompt") for reader in self._readers
        ]
        pieces = max(
            reader.chunks_of(ids)
            for reader, ids in zip((*self._readers, *self._readers), (*asked, *unlike), strict=True)
        )
        is_zero = self._manifest.empty_is_zero and not task.negative_prompt
        negative: list[Chunk] | None = None
        if is_guided:
            negative = [] if is_zero else self._chunks(unlike, pieces)
        work = ImagineWork(
            request=request,
            submitted_s=submitted_s,
            prompt=self._chunks(asked, pieces),
            negative=negative,
            prompt_tokens=len(asked[0]),
            record=record,
            start=self._start(task, record),
            preview_every=self._shown_every(task),
        )
        form = self._session.form
        shape = form.channels, record.height // form.factor, record.width // form.factor
        work.canvases = [
            begin_canvas(
                work, index, begin(self._manifest.scheduler, record.steps, task.scheduler), shape
            )
            for index in range(task.count)
        ]
        return work

    def _shown_every(self, task: Imagine) -> int:
        """After how many steps each a picture is shown; raises as `_make` does."""
        if task.preview_every and self._manifest.preview is None:
            raise InvalidParameter("this model has no previews", param="preview_every")
        return task.preview_every

    def _start(self, task: Imagine, record: PictureRecord) -> Start | None:
        """What pictures go on from; raises as `_make` does."""
        if task.image is None:
            return None
        if not self._session.encodes:
            raise InvalidParameter("this model has no encoder of pictures", param="image")
        taken = min(int(record.steps * task.strength), record.steps)
        if not taken:
            raise InvalidParameter(
                f"{record.steps} steps with a strength of {task.strength:g} are no step",
                param="strength",
            )
        most, size = self._host.settings.max_picture_pixels, (record.height, record.width)
        mask = None if task.mask is None else mask_of(task.mask, size, max_pixels=most)
        factor = self._manifest.latent_factor
        return Start(
            pixels=pixels_of(task.image, size, max_pixels=most),
            skipped=record.steps - taken,
            mask=None if mask is None else mask[::factor, ::factor],
        )

    def _chunks(self, ids: list[list[int]], pieces: int) -> list[Chunk]:
        framed = [
            reader.framed(tokens, pieces) for reader, tokens in zip(self._readers, ids, strict=True)
        ]
        return list(zip(*framed, strict=True))

    def _record(self, task: Imagine) -> PictureRecord:
        """What the pictures of a request are made of, with this model's own values where it says
        nothing.

        Raises:
            InvalidParameter: a size or a number of steps that this model, or this daemon, does not
                take.
        """
        manifest, settings = self._manifest, self._host.settings
        width, height = task.width or manifest.width, task.height or manifest.height
        for param, side in (("width", width), ("height", height)):
            if side % manifest.size_step:
                raise InvalidParameter(
                    f"{param} must be a multiple of {manifest.size_step}, not {side}", param=param
                )
        if width * height > self._most_pixels:
            raise InvalidParameter(
                f"a picture of {width} x {height} has more than {self._most_pixels} pixels, which"
                " is what engine.max_image_pixels allows",
                param="width",
            )
        steps = task.steps or manifest.steps
        if steps > settings.max_image_steps:
            raise InvalidParameter(
                f"steps must be at most {settings.max_image_steps} (engine.max_image_steps), not"
                f" {steps}",
                param="steps",
            )
        return PictureRecord(
            model=self.name,
            digest=self._digest,
            licence=manifest.provenance.licence,
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            seed=secrets.randbelow(MAX_DRAWN_SEED) if task.seed is None else task.seed,
            steps=steps,
            guidance=manifest.guidance if task.guidance is None else task.guidance,
            guidance_rescale=task.guidance_rescale,
            scheduler=task.scheduler or manifest.scheduler.scheduler,
            width=width,
            height=height,
            image=None if task.image is None else task.image.sha256,
            strength=None if task.image is None else task.strength,
            mask=None if task.mask is None else task.mask.sha256,
        )


def open_diffusion(bundle: DiffusionBundle, host: Host, opening: Opening) -> DiffusionModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden samples do not
            come.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    graphs = wanted_graphs(bundle, host.settings)
    return DiffusionModel(bundle=bundle, graphs=graphs, host=host, opening=opening)
