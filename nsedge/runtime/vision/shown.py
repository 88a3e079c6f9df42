"""Pictures of a prompt: what stands there for one, and what the encoder takes of it. What decodes
them is imported with the first."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media, MediaPart
from nsedge.bundle.vision_lm import (
    FilmPrompt,
    PicturePrompt,
    Pictures,
    TiledPicture,
    WholePicture,
)
from nsedge.errors import NsedgeError
from nsedge.runtime.vision.films import Film, FilmFrame, FilmLimits
from nsedge.runtime.vision.frames import chosen, clock_times
from nsedge.runtime.vision.tiles import grid_of, written

Pixels = NDArray[np.uint8]
T = TypeVar("T")


class PromptPictures:
    """Reads the pictures of one model's prompts. Thread-safe."""

    def __init__(
        self,
        layout: Pictures,
        prompt: PicturePrompt,
        film: FilmPrompt,
        *,
        max_pixels: int,
        films: FilmLimits,
        context: int,
    ) -> None:
        """`max_pixels`: of one picture, before and after it is resized. films: bounds of each.
        context: tokens that a prompt may have."""
        self._layout = layout
        self._of_frames = (
            msgspec.structs.replace(layout, splits=False)
            if isinstance(layout, TiledPicture)
            else layout
        )
        self._prompt = prompt
        self._film = film
        self._films = films
        self._context = context
        self._most = {"max_pixels": max_pixels}
        self._whole = f"{prompt.before}{prompt.token * layout.rows}{prompt.after}"

    def written(self, media: Media) -> str:
        """What stands in a prompt for a picture; of one that may be cut, its size is looked at.

        Raises:
            InvalidMedia: it is no picture, or damaged.
            MessageTooLarge: it has too many pixels.
        """
        layout = self._layout_of(media)
        if isinstance(layout, WholePicture):
            return self._whole
        size = _told(lambda: _module("decoding").measure(media, **self._most))
        return written(layout, self._prompt.token, grid_of(layout, *size))

    def read(self, media: Media) -> list[Pixels]:
        """What the encoder takes of a picture, in the order of its rows: uint8 [3, H, W] each.

        Raises as `written`.
        """
        layout, preparing = self._layout_of(media), _module("preparing")
        if isinstance(layout, WholePicture):
            return [_told(lambda: preparing.prepare(media, layout.steps, **self._most))]
        return list(_told(lambda: preparing.prepare_tiles(media, layout, **self._most)))

    def film(self, part: MediaPart) -> list[str | Media]:
        """What stands in a prompt for a film: texts, and frames of it.

        Raises:
            InvalidMedia, MessageTooLarge: as `Film` does.
            InvalidParameter: more frames are asked for than are looked at.
        """
        place = part.place or "a film"
        told, film = self._film, _told(lambda: Film(part.media, self._films), place)
        frames = [FilmFrame.of(film, number) for number in self._chosen(film, part, place)]
        words = {
            "{frames}": str(len(frames)),
            "{length}": str(timedelta(seconds=int(film.end_s))),
        }
        shown: list[str | Media] = [_filled(told.before, words)]
        times = clock_times([film.times[frame.number] for frame in frames])
        for time, frame in zip(times, frames, strict=True):
            before, after = _filled(told.frame, {"{time}": time}).split("{frame}")
            shown += [before, frame, after]
        return [*shown, _filled(told.after, words)]

    def _chosen(self, film: Film, part: MediaPart, place: str) -> tuple[int, ...]:
        told = self._film
        tokens = self.written(FilmFrame.of(film, 0)).count(self._prompt.token)
        usual = told.frames or max(1, self._context // 2 // tokens)
        return _told(
            lambda: chosen(
                film.times,
                film.end_s,
                fps=part.fps,
                frames=part.frames,
                most=self._films.frames,
                usual=(told.fps, usual),
            ),
            place,
        )

    def _layout_of(self, media: Media) -> Pictures:
        return self._of_frames if isinstance(media, FilmFrame) else self._layout


def _filled(text: str, words: Mapping[str, str]) -> str:
    for place, word in words.items():
        text = text.replace(place, word)
    return text


def _module(name: str) -> Any:
    return importlib.import_module(f"nsedge.runtime.vision.{name}")


def _told(look: Callable[[], T], what: str = "a picture") -> T:
    try:
        return look()
    except NsedgeError as error:
        raise type(error)(f"{what}: {error.message}", param="messages") from error
