"""Pictures that an encoder takes in sizes of their own, as patches."""

from __future__ import annotations

from nsedge.bundle.fields import Count, Positive, Strict
from nsedge.bundle.pictures import PictureSteps


class PatchedPicture(Strict, frozen=True, kw_only=True, tag_field="layout", tag="patched"):
    """A picture that the encoder takes in about its own size, in patches, as Qwen2-VL does: both
    sides are brought to multiples of `patch` x `merge` pixels, in proportion, and all of it to
    `least_pixels` at least and `most_pixels` at most.

    - steps: of a picture as golden vectors are made of, in its size; filter and levels are those of
      all. rows: what the graph makes of such a one.
    - patch: pixels along a side of a patch. frames: how often each of its pixels is there.
    - merge: patches along a side of what becomes one row.
    - window: rows along a side of the windows that most layers attend within; 0 where none does.
    """

    steps: PictureSteps
    rows: Positive
    patch: Positive
    frames: Positive
    merge: Positive
    window: Count = 0
    least_pixels: Positive
    most_pixels: Positive

    def __post_init__(self) -> None:
        if self.steps.crop is not None or any(side % self.unit for side in self.steps.size):
            raise ValueError(f"a picture is resized to multiples of {self.unit} pixels")
        if self.least_pixels > self.most_pixels:
            raise ValueError(f"{self.least_pixels} pixels at least, and {self.most_pixels} at most")
        rows, columns = self.grid
        if self.rows != rows * columns:
            raise ValueError(f"{self.rows} rows are not {rows} x {columns}")

    @property
    def unit(self) -> int:
        """Pixels along a side of what becomes one row."""
        return self.patch * self.merge

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of what the graph makes of a picture as golden vectors are made of."""
        height, width = self.steps.size
        return height // self.unit, width // self.unit
