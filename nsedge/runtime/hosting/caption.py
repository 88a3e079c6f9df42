"""Models that write what is to be seen in pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Caption, Generate, ModelStats, Request, Sampling
from nsedge.bundle import caption as manifests
from nsedge.bundle.caption import CaptionVariant, GoldenCaption
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import UnsupportedTask
from nsedge.runtime.decode.job import Job
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting import golden_captions
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.admission import ask_for
from nsedge.runtime.hosting.caption_loop import CaptionLoop, CaptionWork
from nsedge.runtime.hosting.conditioned import ConditionedModel, Parts, Plan, Told, variant_of
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.hosting.settling import says_how
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.structure.structure import Structure
from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.prompt import PromptReader
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.reader import PictureReader

CaptionBundle = Bundle[manifests.Caption]

GOLDEN_PICTURES = 2
"""Of a bundle's, that are looked at before it is ready."""


@dataclass(frozen=True, kw_only=True)
class CaptionParts(Parts):
    """A captioner that nothing was run on yet. levels: what each level of each channel becomes,
    float32 [3, 256]."""

    pictures: PictureReader
    levels: NDArray[np.float32]
    prompts: PromptReader
    detokenizer: Detokenizer
    structure: Structure

    def look(self, pixels: NDArray[np.uint8], row: int) -> None:
        """Write what is to be seen in a picture, uint8 [3, H, W], to a row of the memory."""
        self.writer.run(normalised(pixels[None], self.levels)[0], row)


class CaptionModel(ConditionedModel[manifests.Caption, CaptionParts]):
    """A captioner in memory."""

    variant: CaptionVariant
    loop: CaptionLoop

    def __init__(
        self, *, bundle: CaptionBundle, variant: CaptionVariant, host: Host, opening: Opening
    ) -> None:
        """Load `variant`, warm it up and check its golden pictures; nothing runs yet. Raises as
        `ConditionedModel` does."""
        settings = host.settings
        capacity = min(bundle.manifest.context_length, settings.context_tokens)
        super().__init__(
            bundle=bundle, variant=variant, host=host, opening=opening, capacity=capacity
        )
        parts = self.parts
        self.prompts, self.detokenizer = parts.prompts, parts.detokenizer
        self.structure = parts.structure
        self.engine = self.make_engine(
            deliver=host.deliver,
            end_ids=self.manifest.eos_token_ids,
            stretch=settings.step_stretch,
        )
        self.loop = CaptionLoop(
            look=parts.look,
            writer=self.engine,
            rows=self.slots,
            waiting=settings.max_queue,
            seat=host.arbiter(variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"caption-{self.name}",
        )

    def open_parts(self, bundle: Bundle[Any], told: Told) -> CaptionParts:
        """Open the graphs, and what prepares pictures and writes text."""
        manifest, settings = self.manifest, self.host.settings
        plan = Plan(bundle=bundle, variant=self.variant, settings=settings, capacity=self.capacity)
        plan.check(told)
        encoder = manifest.components.encoder_of(self.variant.name)
        opened = plan.open(reads=encoder.io.pixel_values)
        tokenizer = read_tokenizer(bundle.file(manifest.tokenizer.file))
        steps = manifest.processors.pictures
        return CaptionParts(
            memory=opened.memory,
            writer=opened.writer,
            executor=opened.executor,
            pictures=PictureReader(steps, max_pixels=settings.max_picture_pixels),
            levels=level_table(steps),
            prompts=PromptReader(bundle, tokenizer),
            detokenizer=Detokenizer(tokenizer),
            structure=Structure(
                tokenizer, size=manifest.vocab_size, end_ids=manifest.eos_token_ids
            ),
        )

    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Raises BundleInvalid where the golden captions do not come."""
        golden_captions.check(
            bundle.golden("caption", GoldenCaption)[:GOLDEN_PICTURES],
            size=self.manifest.processors.pictures.size,
            look=lambda pixels: self.parts.look(pixels, 0),
            runner=self.parts.executor,
            variant=self.variant,
        )

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Accepted[CaptionWork]:
        """Read the picture, and queue it."""
        loop = self.loop
        work = Accepted(
            host=self.host,
            reader=self.host.media_reader,
            request=request,
            emit=emit,
            make=lambda: self._make(request, emit, submitted_s),
            queue=lambda job: loop.submit(job, emit),
            cancel=loop.cancel,
        )
        work.begin()
        return work

    def stats(self) -> ModelStats:
        """What loop and engine did and do."""
        return self.loop.stats(self.engine_stats())

    def _make(self, request: Request, emit: Emit, submitted_s: float) -> CaptionWork:
        """Read a picture and what its caption goes on from; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than a caption.
            InvalidMedia: it is no picture, or damaged.
            MessageTooLarge: it has too many pixels.
            ContextExceeded: prompt and max_tokens do not fit.
            InvalidParameter: a parameter does not fit the model, or the constraint cannot be
                compiled.
        """
        task = request.task
        if not isinstance(task, Caption):
            raise UnsupportedTask(f"a captioner does not {task.name}", param="model")
        pixels = self.parts.pictures.read(task.media)
        prompt = Generate(text=task.prompt)
        read = self.prompts.reading(prompt, add_special=False, parse_special=False)
        ids = (self.manifest.start_id, *read.token_ids)
        asked = ask_for(
            request,
            Generate(
                token_ids=ids,
                sampling=self._settled(task, len(ids)),
                constraint=task.constraint,
            ),
            self,
            prompt_ids=ids,
            submitted_s=submitted_s,
            emit=emit,
        )

        def begin(row: int, emit: Emit) -> Job:
            return dataclasses.replace(asked, memory=row, emit=emit).first()

        return CaptionWork(request=request, begin=begin, pixels=pixels, submitted_s=submitted_s)

    def _settled(self, task: Caption, begun: int) -> Sampling:
        """A request's sampling, with the makers' length and search where it says nothing of these;
        `begun` tokens of the caption are there. Beams cannot be held to a constraint, and there are
        as many as rows at most."""
        sampling, manifest = task.sampling, self.manifest
        if sampling.max_tokens is None:
            room = max(1, min(manifest.max_length, self.capacity) - begun)
            sampling = dataclasses.replace(sampling, max_tokens=max(room, sampling.min_tokens))
        search = manifest.search
        beams = min(search.beams, self.slots)
        if beams == 1 or says_how(sampling) or task.constraint or sampling.n > beams:
            return sampling
        return dataclasses.replace(
            sampling,
            beams=beams,
            length_penalty=search.length_penalty,
            early_stopping=search.early_stopping,
        )


def open_caption(bundle: CaptionBundle, host: Host, opening: Opening) -> CaptionModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden captions are not
            written.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = variant_of(bundle, host.settings)
    with memory.blocks_of_their_own():
        return CaptionModel(bundle=bundle, variant=variant, host=host, opening=opening)
