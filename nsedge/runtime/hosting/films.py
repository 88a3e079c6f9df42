"""Bounds of films, and frames of them for a model that captions pictures, each small enough to
wait."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.vision.films import Film, FilmLimits
from nsedge.runtime.vision.frames import chosen, clock_times

LONGEST_SIDE = 512
"""To which a frame is brought: more than captioners look at."""
FPS = 1.0


def film_limits(settings: EngineSettings) -> FilmLimits:
    """Of each film."""
    return FilmLimits(
        frames=settings.max_video_frames,
        seconds=settings.max_video_s,
        decode_s=settings.video_decode_s,
        max_pixels=settings.max_picture_pixels,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A frame of a film, and when it is shown, as M:SS."""

    time: str
    media: Media


class MediaFilms:
    """Reads frames of films, on a thread of `reader`."""

    def __init__(
        self,
        limits: FilmLimits | None = None,
        *,
        reader: Executor | None = None,
        usual: int = 8,
    ) -> None:
        """usual: frames at most that are looked at of a film where nothing is said of it; one a
        second."""
        self._limits = limits or FilmLimits()
        self._reader = reader
        self._usual = usual

    async def stills(
        self, media: Media, *, fps: float | None, frames: int | None
    ) -> tuple[Still, ...]:
        """The frames that are looked at, in order.

        Raises:
            InvalidMedia, MessageTooLarge: as `Film` does.
            InvalidParameter: more frames are asked for than are looked at.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._read, media, fps, frames)

    def _read(self, media: Media, fps: float | None, frames: int | None) -> tuple[Still, ...]:
        film, limits = Film(media, self._limits), self._limits
        numbers = chosen(
            film.times,
            film.end_s,
            fps=fps,
            frames=frames,
            most=limits.frames,
            usual=(FPS, self._usual),
        )
        times = clock_times([film.times[number] for number in numbers])
        return tuple(
            Still(time=time, media=_small(film, number))
            for time, number in zip(times, numbers, strict=True)
        )


def _small(film: Film, number: int) -> Media:
    picture = film.picture(number)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return Media(
        type=RAW_PICTURE,
        data=picture.tobytes(),
        shape=(picture.height, picture.width, 3),
        dtype="uint8",
    )
