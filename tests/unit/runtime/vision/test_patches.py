"""Pictures in patches: their sizes, where each patch is, and windows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nsedge.api import Media
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.bundle.vision_lm import FilmPrompt, PicturePrompt
from nsedge.errors import InvalidMedia, MessageTooLarge
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.patches import patches_of, places_of, size_of, windows_of
from nsedge.runtime.vision.shown import PromptPictures

LAYOUT = PatchedPicture(
    steps=PictureSteps(resize=Resize(height=24, width=32, filter="bicubic"), rescale=1.0),
    rows=12,
    patch=4,
    frames=2,
    merge=2,
    window=2,
    least_pixels=256,
    most_pixels=4096,
)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((20, 33), (16, 32)),
        ((8, 8), (16, 16)),
        ((1, 1), (16, 16)),
        ((1000, 500), (88, 40)),
        ((1, 200), (8, 232)),
    ],
)
def test_sides_are_multiples_within_the_bounds(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert size_of(LAYOUT, *size) == wanted


def test_a_picture_of_no_shape_that_the_model_takes_is_refused() -> None:
    with pytest.raises(InvalidMedia, match=r"201 x 1 pixels: .* more than 200 times as long"):
        size_of(LAYOUT, 1, 201)


def test_patches_lie_by_what_is_merged_and_tell_where_they_are() -> None:
    y, x = np.mgrid[0:24, 0:32]
    picture = np.stack([y // 4, x // 4, y * 0]).astype(np.float32)
    patches = patches_of(LAYOUT, picture)
    assert patches.shape == (48, 3 * 2 * 16)
    places = places_of(LAYOUT, 3, 4)
    assert places[:5].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    by_channel = patches.reshape(48, 3, -1)
    assert (by_channel[:, :2] == places[:, :, None]).all()


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 4), (5, 3), (4, 7)])
def test_windows_hold_every_patch_once(grid: tuple[int, int]) -> None:
    found, places = windows_of(LAYOUT, *grid), places_of(LAYOUT, *grid)
    rows, columns = grid
    windows = -(-rows // 2) * -(-columns // 2)
    assert found.slots.shape == found.filled.shape == (windows, 16)
    assert sorted(found.slots[found.filled == 1]) == list(range(len(places)))
    assert (found.slots.reshape(-1)[found.back] == np.arange(len(places))).all()
    for slots, filled in zip(found.slots, found.filled, strict=True):
        within = places[slots[filled == 1]] // 4
        assert len(np.unique(within, axis=0)) == 1


def test_a_prompt_has_the_grid_of_a_picture() -> None:
    file = io.BytesIO()
    Image.new("RGB", (33, 20)).save(file, "PNG")
    media = Media(type="image/png", data=file.getvalue())
    prompt = PicturePrompt(marker="<>", token="<row>", token_id=7, before="(", after=")")

    def read_by(max_pixels: int) -> PromptPictures:
        bounds = {"films": FilmLimits(), "context": 512, "max_pixels": max_pixels}
        return PromptPictures(LAYOUT, prompt, FilmPrompt(), **bounds)  # type: ignore[arg-type]

    pictures = read_by(660)
    written, (piece,) = pictures.written(media), pictures.read(media).pieces
    assert (written.text, written.grid) == (f"({'<row>' * 8})", (2, 4))
    assert piece.shape == (3, 16, 32)
    assert pictures.rows(piece) == 8
    with pytest.raises(MessageTooLarge, match="33 x 20 pixels; 659 in all"):
        read_by(659).read(media)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 11}, "11 rows are not 3 x 4"),
        ({"patch": 5}, "multiples of 10 pixels"),
        ({"most_pixels": 255}, "256 pixels at least, and 255 at most"),
    ],
)
def test_a_layout_agrees_with_itself(changes: dict[str, int], reason: str) -> None:
    fields = {name: getattr(LAYOUT, name) for name in LAYOUT.__struct_fields__}
    with pytest.raises(ValueError, match=reason):
        PatchedPicture(**(fields | changes))
