"""Films as pictures: which of their frames are looked at, and each of these as one. What decodes
them is imported with the first."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from nsedge.api import Media
from nsedge.api.media import film_form
from nsedge.errors import InvalidMedia, MessageTooLarge
from nsedge.runtime.vision.budget import TimeBudget

READ = "MP4, MOV, WebM, GIF or WebP"
EXTRA = "nsedge[video]"
"""What brings the library that reads containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmLimits:
    """Bounds of one film: frames that are looked at, its length, the time that decoding takes, and
    pixels of a frame."""

    frames: int = 64
    seconds: float = 3600.0
    decode_s: float = 60.0
    max_pixels: int = 64_000_000


class Track(Protocol):
    """A film as it is read, from front to back; one thread at a time."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its frames."""

    @property
    def times(self) -> Sequence[float]:
        """Seconds at which each frame begins to be shown; the first is 0."""

    @property
    def end_s(self) -> float:
        """When the last one ends."""

    def frame(self, number: int) -> Any:
        """A frame in RGB, of Pillow's. Raises InvalidMedia, MessageTooLarge."""


class Film:
    """A film, opened; frames are decoded when they are asked for, best in their order."""

    def __init__(
        self, media: Media, limits: FilmLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read of `media` what its frames are, and decode one at most.

        Raises:
            InvalidMedia: it is no film that is read here, is damaged, or breaks off; or what reads
                it is not installed.
            MessageTooLarge: it is too long, has too many pixels, or takes too long.
        """
        self.sha256 = media.sha256
        self._budget = TimeBudget(limits.decode_s, clock)
        with self._budget:
            self._track = _opened(media.data, limits, self._budget)
        self.size, self.times, self.end_s = (
            self._track.size,
            self._track.times,
            self._track.end_s,
        )
        if self.end_s > limits.seconds:
            raise MessageTooLarge(
                f"a film of {self.end_s:.0f} s; {limits.seconds:g} may be read (engine.max_video_s)"
            )

    def picture(self, number: int) -> Any:
        """A frame in RGB, of Pillow's, in the size of all. Raises as opening does."""
        with self._budget:
            picture = self._track.frame(number)
        return picture if picture.size == self.size[::-1] else picture.resize(self.size[::-1])


@dataclass(frozen=True, kw_only=True)
class FilmFrame(Media):
    """A frame of a film, as a picture among others. It has no bytes; its name is the film's, with
    the frame's number."""

    film: Film = field(repr=False, compare=False)
    number: int

    @classmethod
    def of(cls, film: Film, number: int) -> FilmFrame:
        """The frame of that number."""
        frame = cls(type="image/x-frame", data=b"", film=film, number=number)
        vars(frame)["sha256"] = f"{film.sha256} frame {number}"
        return frame

    @property
    def size(self) -> tuple[int, int]:
        """Its height and width."""
        return self.film.size

    def picture(self) -> Any:
        """It in RGB, of Pillow's. Raises InvalidMedia, MessageTooLarge."""
        return self.film.picture(self.number)


def _opened(data: bytes, limits: FilmLimits, budget: TimeBudget) -> Track:
    form = film_form(data)
    if form is None:
        raise InvalidMedia(f"{len(data)} bytes are no film in {READ}")
    bounds = {"max_pixels": limits.max_pixels, "budget": budget}
    if form in ("gif", "webp"):
        return cast(Track, _module("animations").Animation(data, **bounds))
    try:
        containers = _module("containers")
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise InvalidMedia(
            f"MP4, MOV and WebM are not read here: pip install '{EXTRA}'; GIF and WebP are"
        ) from error
    return cast(Track, containers.Container(data, form, **bounds))


def _module(name: str) -> Any:
    return importlib.import_module(f"nsedge.runtime.vision.{name}")
