"""Prompts that have rows of an encoder's output in the place of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.positions import Block, Positions

Floats = NDArray[np.float32]
Key = int | str
"""What tells a token of a prompt from others: its id; of a medium's, the name of the medium."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Rows [M, hidden] for tokens, and where these are in what is read: int64 [M]."""

    rows: Floats
    places: NDArray[np.int64]
    blocks: NDArray[np.int64] | None = None
    """Where tokens of a picture see each other: the first and last place in the prompt of each of
    those that are read, int64 [P, 2]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A picture or sound in a prompt: what it is called, the places of its tokens, in order, and
    the rows and columns that these are, where that tells their positions. audio_s: seconds of
    sound; none where it is a picture."""

    key: str
    places: tuple[int, ...]
    grid: tuple[int, int] | None = None
    audio_s: float = 0.0


@dataclass(eq=False, slots=True, kw_only=True)
class PromptMedia:
    """The media of a prompt, in the order of their places. `fill` brings their rows, before the
    prompt is read."""

    media: tuple[Medium, ...]
    keys: tuple[Key, ...]
    """The prompt, each token of a medium by the medium's name: a prefix of it is one only of
    prompts about the same media."""
    positions: Positions | None = None
    """Of its tokens, where pictures are rows and columns of them."""
    together: bool = False
    """Whether the tokens of a picture see each other: no piece of the prompt ends within one."""
    _rows: Floats | None = None
    _places: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(
        cls, prompt_ids: Many[int], media: Iterable[Medium], *, together: bool = False
    ) -> PromptMedia:
        """Of a prompt in whose tokens `media` have places."""
        media, keys = tuple(media), list[Key](prompt_ids)
        for medium in media:
            for place in medium.places:
                keys[place] = medium.key
        blocks = [
            Block(place=one.places[0], rows=one.grid[0], columns=one.grid[1])
            for one in media
            if one.grid is not None
        ]
        positions = Positions.of(len(keys), blocks) if blocks else None
        return cls(media=media, keys=tuple(keys), positions=positions, together=together)

    @property
    def tokens(self) -> int:
        """Of all media."""
        return sum(len(medium.places) for medium in self.media)

    @property
    def images(self) -> int:
        """How many are pictures."""
        return sum(not medium.audio_s for medium in self.media)

    @property
    def audio_s(self) -> float:
        """Seconds of sound."""
        return sum(medium.audio_s for medium in self.media)

    def fill(self, rows: Many[Floats]) -> None:
        """Take the rows [tokens, hidden] of each medium.

        Raises:
            ValueError: they are not as many as it has places.
        """
        for medium, own in zip(self.media, rows, strict=True):
            if len(own) != len(medium.places):
                raise ValueError(f"{len(own)} rows for {len(medium.places)} tokens")
        self._rows = rows[0] if len(rows) == 1 else np.concatenate(rows)
        self._places = np.array([place for one in self.media for place in one.places], np.int64)

    def between(self, start: int, end: int) -> Placed | None:
        """What stands for tokens `start` to `end`, places counted from `start`; None where nothing
        does.

        Raises:
            RuntimeError: the rows are not there yet.
        """
        if self._rows is None:
            raise RuntimeError("a prompt is read before its media were")
        first, last = np.searchsorted(self._places, (start, end))
        if first == last:
            return None
        blocks = None
        if self.together:
            told = [(one.places[0], one.places[-1]) for one in self.media]
            met = [block for block in told if block[0] < end and block[1] >= start]
            blocks = np.array(met, np.int64)
        return Placed(
            rows=self._rows[first:last], places=self._places[first:last] - start, blocks=blocks
        )

    def border(self, end: int) -> int:
        """Where a piece of the prompt may end that shall end before token `end`: there, or behind
        a picture whose tokens see each other."""
        if self.together:
            for one in self.media:
                if one.places[0] < end <= one.places[-1]:
                    return one.places[-1] + 1
        return end
