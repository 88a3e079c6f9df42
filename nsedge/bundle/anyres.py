"""Pictures of any size for an encoder of one size: the whole, and tiles of it at a larger one."""

from __future__ import annotations

from nsedge.bundle.fields import Positive, Strict
from nsedge.bundle.pictures import PictureSteps

Size = tuple[Positive, Positive]
"""Height and width."""


class AnyresPicture(Strict, frozen=True, kw_only=True, tag_field="layout", tag="anyres"):
    """A picture that the encoder takes as a whole and, behind it, in tiles, as LLaVA-Next does: it
    is brought into that of the `resolutions` which keeps most of it, with black margins, and cut;
    where there is none, it is not.

    - steps: from the whole, or a tile, to what the graph takes.
    - rows: what the graph makes of one: `patches` rows of so many patches, and one behind each that
      ends it. In the prompt stand the whole's without those ends, then the tiles', put together and
      without the margins, with them.
    """

    steps: PictureSteps
    rows: Positive
    patches: Positive
    resolutions: tuple[Size, ...]

    def __post_init__(self) -> None:
        if self.steps.crop is not None or self.steps.size[0] != self.steps.size[1]:
            raise ValueError("tiles are resized to a square")
        if any(side % self.tile for size in self.resolutions for side in size):
            raise ValueError(f"a resolution is no multiple of a tile's {self.tile} pixels")
        if self.rows != self.patches * (self.patches + 1):
            raise ValueError(f"{self.rows} rows are not {self.patches} x ({self.patches} + 1)")

    @property
    def tile(self) -> int:
        """The side of a tile."""
        return self.steps.size[0]
