"""Pictures that are made of prompts: what is asked, and what comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nsedge.api.bounds import MAX_PROMPT_CHARS, within
from nsedge.api.media import Media
from nsedge.api.scheduling import SchedulingFields
from nsedge.errors import InvalidParameter

LONGEST_SIDE = 16384
MAX_STEPS = 1000
MAX_PICTURES = 16
"""Of one request."""
MAX_GUIDANCE = 100.0
MAX_SEED = 2**64 - 1
MAX_SCHEDULER_CHARS = 64
STRENGTH = 0.8


class ImagineFields(SchedulingFields, total=False):
    """What a picture can be asked for with beside its prompt, as keyword arguments."""

    negative_prompt: str
    width: int | None
    height: int | None
    steps: int | None
    guidance: float | None
    guidance_rescale: float
    scheduler: str | None
    seed: int | None
    count: int
    image: Media | None
    strength: float
    mask: Media | None
    preview_every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imagine:
    """Make pictures of a prompt.

    - negative_prompt: what they are to be unlike; it counts with guidance above 1.
    - width, height: in pixels; None is the model's own.
    - steps: of denoising; None is the model's own number.
    - guidance: how strongly the prompt holds against what the model makes without it; at 1 or less
      it is not asked without. None is the model's own. guidance_rescale: 0 to 1, how far what
      guidance adds to the spread is taken back.
    - scheduler: by name; None is the model's own.
    - seed: of the noise; None is any. Of several pictures each has the next.
    - count: how many pictures.
    - image: what they go on from, instead of noise alone, brought to their size. strength: above 0
      to 1, the share of steps that are taken, with as much noise on it.
    - mask: of that image, what is light is made anew, and what is dark stays.
    - preview_every: after so many steps each, what a picture would be is shown, small; 0 is never.
    """

    name: ClassVar[str] = "imagine"

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_rescale: float = 0.0
    scheduler: str | None = None
    seed: int | None = None
    count: int = 1
    image: Media | None = None
    strength: float = STRENGTH
    mask: Media | None = None
    preview_every: int = 0

    @property
    def media(self) -> tuple[Media, ...]:
        """What it shows."""
        return tuple(one for one in (self.image, self.mask) if one is not None)

    def check(self) -> None:
        """Raises InvalidParameter for values out of range."""
        for param, text in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt)):
            within(f"the length of {param}", len(text), 0, MAX_PROMPT_CHARS, param=param)
        within("width", self.width, 1, LONGEST_SIDE)
        within("height", self.height, 1, LONGEST_SIDE)
        within("steps", self.steps, 1, MAX_STEPS)
        within("guidance", self.guidance, 0.0, MAX_GUIDANCE)
        within("guidance_rescale", self.guidance_rescale, 0.0, 1.0)
        within("seed", self.seed, 0, MAX_SEED)
        within("count", self.count, 1, MAX_PICTURES)
        within("preview_every", self.preview_every, 0, MAX_STEPS)
        if self.scheduler is not None and not 0 < len(self.scheduler) <= MAX_SCHEDULER_CHARS:
            raise InvalidParameter("scheduler is no name", param="scheduler")
        within("strength", self.strength, 0.0, 1.0, exclusive_low=True)
        for param, media in (("image", self.image), ("mask", self.mask)):
            if media is None:
                continue
            media.check()
            if media.kind != "image":
                raise InvalidParameter(f"{media.type} is no picture", param=param)
        if self.image is None and self.mask is not None:
            raise InvalidParameter("a mask is of an image, and there is none", param="mask")
        if self.image is None and self.strength != STRENGTH:
            raise InvalidParameter("strength is of an image, and there is none", param="strength")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRecord:
    """All that a picture was made of: the same again makes the same picture, on the same machine.

    - model, digest, licence: the model's name, the SHA-256 of its manifest, the licence of its
      weights.
    - scheduler: the name that was asked for, or of the model's own.
    - image, mask: the SHA-256 of what it went on from; strength: how far.
    """

    model: str
    digest: str
    licence: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    guidance_rescale: float
    scheduler: str
    width: int
    height: int
    image: str | None = None
    strength: float | None = None
    mask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture is done: number `index` of its request, as a file of type `media_type`."""

    request_id: str
    index: int
    media_type: str
    data: bytes
    record: PictureRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What picture number `index` of a request would be after `step` steps, small, as a file of
    type `media_type`."""

    request_id: str
    index: int
    step: int
    media_type: str
    data: bytes
