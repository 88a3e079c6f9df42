"""Pictures that an encoder takes in tiles: how many of which, and how they stand in a prompt.

The arithmetic is that of transformers' Idefics3ImageProcessor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nsedge.bundle.vision_lm import TiledPicture

LONGEST_SIDE = 4096
"""Of a picture that is cut into tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A picture is brought to the size `first`, then to `second`, (height, width) each, and cut
    into rows x columns tiles; 0 x 0 is not cut, and is one tile itself."""

    first: tuple[int, int]
    second: tuple[int, int]
    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        """That come of it: where it is cut, the whole picture is one more."""
        return self.rows * self.columns + 1


def grid_of(layout: TiledPicture, height: int, width: int) -> Grid:
    """The grid of a picture of this size."""
    first = _within(*_to_longest(height, width, layout.longest_edge))
    if not layout.splits:
        return Grid(first=first, second=(layout.tile, layout.tile), rows=0, columns=0)
    second = _to_multiples(*first, layout.tile)
    down, across = (side // layout.tile for side in second)
    if down * across == 1:
        down = across = 0
    return Grid(first=first, second=second, rows=down, columns=across)


def written(layout: TiledPicture, token: str, grid: Grid) -> str:
    """What stands in a prompt for a picture with that grid."""
    rows, texts = token * layout.rows, layout.texts
    if not grid.rows:
        return texts.alone.replace("{rows}", rows)
    pieces = []
    for row in range(1, grid.rows + 1):
        for column in range(1, grid.columns + 1):
            named = texts.tile.replace("{row}", str(row)).replace("{column}", str(column))
            pieces.append(named.replace("{rows}", rows))
        pieces.append(texts.row_end)
    return "".join([*pieces, texts.whole.replace("{rows}", rows)])


def _to_longest(height: int, width: int, longest: int) -> tuple[int, int]:
    """In proportion, the longer side at `longest`, and the other even."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        height, width = longest, int(longest * ratio)
        width += width % 2
    return max(height, 1), max(width, 1)


def _within(height: int, width: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height and width > LONGEST_SIDE:
        width, height = LONGEST_SIDE, int(LONGEST_SIDE / ratio)
    elif height > width and height > LONGEST_SIDE:
        height, width = LONGEST_SIDE, int(LONGEST_SIDE * ratio)
    return max(height, 1), max(width, 1)


def _to_multiples(height: int, width: int, tile: int) -> tuple[int, int]:
    """Both sides at multiples of a tile's, the longer one first."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        height = math.ceil(int(width / ratio) / tile) * tile
    else:
        height = math.ceil(height / tile) * tile
        width = math.ceil(int(height * ratio) / tile) * tile
    return height, width
