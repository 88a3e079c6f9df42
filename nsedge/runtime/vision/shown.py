"""Pictures of a prompt: what stands there for one, and what the encoder takes of it. What decodes
them is imported with the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from numpy.typing import NDArray

from nsedge.api import Media, MediaPart
from nsedge.bundle.anyres import AnyresPicture
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import (
    CroppedPicture,
    FilmPrompt,
    PicturePrompt,
    Pictures,
    TiledPicture,
    WholePicture,
)
from nsedge.runtime.vision import apart, tiles
from nsedge.runtime.vision.anyres import order_of
from nsedge.runtime.vision.crops import arrangement, frame_of
from nsedge.runtime.vision.films import Film, FilmFrame, FilmLimits
from nsedge.runtime.vision.frames import chosen, clock_times
from nsedge.runtime.vision.patches import grid_of
from nsedge.runtime.vision.taken import Taken, Written


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
        self._of_frames = _uncut(layout)
        self._prompt = prompt
        self._film = film
        self._films = films
        self._context = context
        self._most = {"max_pixels": max_pixels}

    def written(self, media: Media) -> Written:
        """What stands in a prompt for a picture; of one that may be cut, its size is looked at.

        Raises:
            InvalidMedia: it is no picture, or damaged.
            MessageTooLarge: it has too many pixels.
        """
        layout, prompt = self._layout_of(media), self._prompt
        match layout:
            case WholePicture():
                return self._rows(layout.rows)
            case AnyresPicture():
                return self._rows(len(order_of(layout, *self._size(media))))
            case PatchedPicture():
                size = self._size(media)
                grid = grid_of(layout, *size)
                return self._rows(grid[0] * grid[1], grid=grid)
            case CroppedPicture():
                size = self._size(media)
                return self._rows(len(arrangement(layout, frame_of(layout, *size))))
            case TiledPicture():
                cut = tiles.grid_of(layout, *self._size(media))
                return Written(text=tiles.written(layout, prompt.token, cut))

    def read(self, media: Media) -> Taken:
        """What the encoder takes of a picture, in the order of its rows.

        Raises as `written`.
        """
        layout, preparing = self._layout_of(media), _module("preparing")
        makers: dict[type, Callable[[], Taken | list[NDArray[Any]]]] = {
            WholePicture: lambda: [preparing.prepare(media, layout.steps, **self._most)],
            TiledPicture: lambda: preparing.prepare_tiles(media, layout, **self._most),
            PatchedPicture: lambda: [preparing.prepare_patched(media, layout, **self._most)],
            AnyresPicture: lambda: preparing.prepare_anyres(media, layout, **self._most),
            CroppedPicture: lambda: preparing.prepare_crops(media, layout, **self._most),
        }
        made = makers[type(layout)]()
        return made if isinstance(made, Taken) else Taken(pieces=made)

    def rows(self, piece: NDArray[Any]) -> int:
        """How many rows come of a piece [3, H, W]."""
        layout = self._layout
        if isinstance(layout, PatchedPicture):
            return int(piece[0].size) // layout.unit**2
        return layout.rows

    def _rows(self, count: int, *, grid: tuple[int, int] | None = None) -> Written:
        prompt = self._prompt
        return Written(text=f"{prompt.before}{prompt.token * count}{prompt.after}", grid=grid)

    def _size(self, media: Media) -> tuple[int, int]:
        """Height and width of a picture; raises as `written`."""
        size: tuple[int, int] = _module("decoding").measure(media, **self._most)
        return size

    def film(self, part: MediaPart) -> list[str | Media]:
        """What stands in a prompt for a film: texts, and frames of it.

        Raises:
            InvalidMedia, MessageTooLarge: as `Film` does.
            InvalidParameter: more frames are asked for than are looked at.
        """
        told, film = self._film, Film(part.media, self._films)
        frames = [FilmFrame.of(film, number) for number in self._chosen(film, part)]
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

    def _chosen(self, film: Film, part: MediaPart) -> tuple[int, ...]:
        told = self._film
        tokens = self.written(FilmFrame.of(film, 0)).text.count(self._prompt.token)
        usual = told.frames or max(1, self._context // 2 // tokens)
        return chosen(
            film.times,
            film.end_s,
            fps=part.fps,
            frames=part.frames,
            most=self._films.frames,
            usual=(told.fps, usual),
        )

    def _layout_of(self, media: Media) -> Pictures:
        return self._of_frames if isinstance(media, FilmFrame) else self._layout


def _uncut(layout: Pictures) -> Pictures:
    """The same for pictures that are not cut."""
    match layout:
        case TiledPicture():
            return msgspec.structs.replace(layout, splits=False)
        case AnyresPicture():
            return msgspec.structs.replace(layout, resolutions=())
        case CroppedPicture():
            return msgspec.structs.replace(layout, most=1)
    return layout


def _filled(text: str, words: Mapping[str, str]) -> str:
    for place, word in words.items():
        text = text.replace(place, word)
    return text


def _module(name: str) -> Any:
    return apart.module(name)
