"""A request for pictures on its way: what it asks, and each picture between noise and file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Finished, FinishReason, Picture, Preview, Request, Started, Timings, Usage
from nsedge.api.imagine import MAX_SEED, PictureRecord
from nsedge.runtime.diffusion.guidance import guided
from nsedge.runtime.diffusion.scheduler import Scheduler
from nsedge.runtime.graph.diffusion import Chunk, Encoded, Prompted, Row
from nsedge.runtime.vision.png import MEDIA_TYPE, png_of

Floats = NDArray[np.float32]
KEYWORD = "parameters"
"""Under which a file tells what its picture was made of, as widely used front ends look for it."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Start:
    """What pictures go on from.

    - pixels: float32 [3, height, width], from -1 to 1.
    - skipped: steps that are left out at the beginning.
    - mask: bool [height, width] of latents, what is made anew; None is all.
    """

    pixels: Floats
    skipped: int
    mask: NDArray[np.bool_] | None


@dataclass(eq=False, slots=True, kw_only=True)
class Canvas:
    """One picture in the making, on the loop's thread."""

    owner: ImagineWork
    index: int
    seed: int
    scheduler: Scheduler
    generator: np.random.Generator
    latents: Floats
    noise: Floats
    """What it begins with."""
    original: Floats | None = None
    """The latents of what it goes on from, once they were found."""
    spent_s: float = 0.0
    """What it took of the device."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What pictures of one run have in common: the shape of latents and states."""
        return (*self.latents.shape, len(self.owner.prompted.states))

    @property
    def is_denoised(self) -> bool:
        """Whether all noise is taken away."""
        return self.scheduler.is_done()

    @property
    def rank(self) -> tuple[float, int]:
        """Who goes first: who was due first, counting what the device did for it already."""
        return self.owner.due_s + self.spent_s, self.index

    def rows(self) -> list[Row]:
        """What the denoiser is asked next: with guidance, without the prompt first."""
        given = self.scheduler.scaled(self.latents)
        timestep = float(self.scheduler.timesteps[self.scheduler.at])
        asked = [self.owner.prompted] if self.owner.without is None else self.owner.both
        return [Row(sample=given, timestep=timestep, prompted=one) for one in asked]

    def take(self, outputs: Sequence[Floats]) -> None:
        """Go on by what the denoiser gave of `rows`."""
        record = self.owner.record
        output = outputs[-1]
        if len(outputs) > 1:
            output = guided(outputs[0], output, record.guidance, record.guidance_rescale)
        self.latents = self.scheduler.step(output, self.latents, self._noise)
        start = self.owner.start
        if start is not None and start.mask is not None:
            self.latents = np.where(start.mask, self.latents, self._kept())

    def go_on_from(self, encoded: Encoded, start: Start) -> None:
        """Begin with what is there, as the encoder gave it, and noise on it."""
        self.original = encoded.latents(self._noise())
        if start.skipped or start.mask is None:
            self.latents = self.scheduler.noised(self.original, self.noise)

    def preview(self, rows: Floats) -> Preview:
        """What it would be, by what each channel of latents adds to red, green and blue: rows
        float32 [3, channels + 1]."""
        foreseen = self.scheduler.foreseen
        if foreseen is None:
            raise RuntimeError("a preview is of a picture that was denoised")
        weights, base = rows[:, :-1], rows[:, -1]
        colours = np.tensordot(foreseen, weights, axes=([0], [1])) + base
        levels = np.clip(colours * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
        return Preview(
            request_id=self.owner.request.request_id,
            index=self.index,
            step=self.scheduler.at,
            media_type=MEDIA_TYPE,
            data=png_of(levels, {}),
        )

    def picture(self, pixels: NDArray[np.uint8]) -> Picture:
        """The event that tells of it, done: pixels uint8 [height, width, 3]."""
        record = replace(self.owner.record, seed=self.seed)
        return Picture(
            request_id=self.owner.request.request_id,
            index=self.index,
            media_type=MEDIA_TYPE,
            data=png_of(pixels, {KEYWORD: parameters(record)}),
            record=record,
        )

    def _kept(self) -> Floats:
        """What it goes on from, with as much noise as there is to be now."""
        if self.original is None:
            raise RuntimeError("what a picture goes on from is encoded before it is denoised")
        if self.scheduler.is_done():
            return self.original
        return self.scheduler.noised(self.original, self.noise)

    def _noise(self) -> Floats:
        return self.generator.standard_normal(self.latents.shape, np.float32)


@dataclass(eq=False, slots=True, kw_only=True)
class ImagineWork:
    """One request. prompt, negative: in equally many pieces; negative is None without guidance, and
    has no pieces where what it means is zeros. record: of its pictures; seed is the first one's."""

    request: Request
    submitted_s: float
    prompt: list[Chunk]
    negative: list[Chunk] | None
    prompt_tokens: int
    record: PictureRecord
    start: Start | None = None
    preview_every: int = 0
    canvases: list[Canvas] = field(default_factory=list)
    """Those that are not done yet."""
    read: Prompted | None = None
    """What the prompt means, once that was found."""
    without: Prompted | None = None
    """And the negative one."""
    due_s: float = 0.0
    began_s: float | None = None
    calls: int = 0
    """Of the denoiser, for it."""
    done: int = 0
    """Pictures that are."""

    @property
    def deadline_s(self) -> float | None:
        """When it is too late."""
        limit = self.request.deadline_s
        return None if limit is None else self.submitted_s + limit

    @property
    def prompted(self) -> Prompted:
        """What the prompt means, which must be known."""
        if self.read is None:
            raise RuntimeError("the prompt is read before anything is denoised")
        return self.read

    @property
    def both(self) -> list[Prompted]:
        """The negative prompt and the prompt."""
        return [self.prompted if self.without is None else self.without, self.prompted]

    @property
    def total_calls(self) -> int:
        """Of the denoiser, in all: those there were, and those to come."""
        left = (len(one.scheduler.timesteps) - one.scheduler.at for one in self.canvases)
        return self.calls + sum(left)

    def begin(self, now_s: float) -> Started:
        """The device has begun with it."""
        self.began_s = now_s
        return Started(
            request_id=self.request.request_id,
            prompt_tokens=self.prompt_tokens,
            queue_s=now_s - self.submitted_s,
        )

    def end(self, reason: FinishReason, now_s: float) -> Finished:
        """Its end, with what it came to."""
        began_s = now_s if self.began_s is None else self.began_s
        is_begun = self.began_s is not None
        return Finished(
            request_id=self.request.request_id,
            reason=reason,
            usage=Usage(
                prompt_tokens=self.prompt_tokens if is_begun else 0,
                completion_tokens=0,
                images=self.done,
                steps=self.calls,
            ),
            timings=Timings(
                queue_s=began_s - self.submitted_s, prefill_s=now_s - began_s, decode_s=0.0
            ),
        )


def begin_canvas(
    owner: ImagineWork, index: int, scheduler: Scheduler, shape: tuple[int, ...]
) -> Canvas:
    """Picture number `index` of a request, as the noise of its own seed: latents of `shape`.

    Raises:
        InvalidParameter: the scheduler cannot go on from a picture.
    """
    if owner.start is not None:
        scheduler.begin_at(owner.start.skipped)
    seed = (owner.record.seed + index) % (MAX_SEED + 1)
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(shape, np.float32)
    return Canvas(
        owner=owner,
        index=index,
        seed=seed,
        scheduler=scheduler,
        generator=generator,
        latents=noise * np.float32(scheduler.init_scale),
        noise=noise,
    )


def parameters(record: PictureRecord) -> str:
    """What a picture was made of, as widely used front ends write it into files."""
    negative = f"\nNegative prompt: {record.negative_prompt}" if record.negative_prompt else ""
    strength = "" if record.strength is None else f", Denoising strength: {record.strength:g}"
    rescale = f", CFG rescale: {record.guidance_rescale:g}" if record.guidance_rescale else ""
    return (
        f"{record.prompt}{negative}\nSteps: {record.steps}, Sampler: {record.scheduler}, CFG scale:"
        f" {record.guidance:g}{rescale}{strength}, Seed: {record.seed}, Size:"
        f" {record.width}x{record.height}, Model hash: {record.digest[:10]}, Model:"
        f" {record.model}, Version: nsedge"
    )
