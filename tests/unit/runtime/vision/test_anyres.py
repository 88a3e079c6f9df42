"""Pictures in tiles of the best of several sizes: which rows stand in a prompt."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nsedge.api import Media
from nsedge.bundle.anyres import AnyresPicture
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.bundle.vision_lm import FilmPrompt, PicturePrompt
from nsedge.errors import MessageTooLarge
from nsedge.runtime.vision.anyres import fit_of, order_of
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.shown import PromptPictures

SIDE, PATCHES = 8, 4
ENDS = {row * (PATCHES + 1) + PATCHES for row in range(PATCHES)}


def steps_of(height: int, width: int) -> PictureSteps:
    return PictureSteps(
        resize=Resize(height=height, width=width, filter="bicubic"), rescale=1 / 255
    )


def layout_of(*resolutions: tuple[int, int]) -> AnyresPicture:
    return AnyresPicture(
        steps=steps_of(SIDE, SIDE),
        rows=PATCHES * (PATCHES + 1),
        patches=PATCHES,
        resolutions=resolutions,
    )


def read_by(layout: AnyresPicture, prompt: PicturePrompt, *, max_pixels: int) -> PromptPictures:
    limits = FilmLimits()
    return PromptPictures(
        layout, prompt, FilmPrompt(), max_pixels=max_pixels, films=limits, context=512
    )


LAYOUT = layout_of((8, 16), (16, 8), (16, 16))


@pytest.mark.parametrize(
    ("size", "outer", "inner"),
    [
        ((8, 16), (8, 16), (8, 16)),
        ((100, 50), (16, 8), (16, 8)),
        ((90, 100), (16, 16), (15, 16)),
        ((3, 100), (8, 16), (1, 16)),
    ],
)
def test_the_size_that_keeps_most_is_taken(
    size: tuple[int, int], outer: tuple[int, int], inner: tuple[int, int]
) -> None:
    fit = fit_of(LAYOUT, *size)
    assert (fit.outer, fit.inner) == (outer, inner)
    assert (fit.down * SIDE, fit.across * SIDE) == outer


def test_rows_of_a_picture_without_a_margin_stand_line_by_line() -> None:
    order = order_of(LAYOUT, 8, 16).tolist()
    whole, lines = order[: PATCHES**2], order[PATCHES**2 :]
    assert not ENDS.intersection(whole)
    assert whole == sorted(whole)
    pitch = 2 * PATCHES + 1
    assert len(lines) == PATCHES * pitch
    for row in range(PATCHES):
        line = lines[row * pitch : (row + 1) * pitch]
        left, right = 20 + 5 * row, 40 + 5 * row
        assert line[:-1] == [*range(left, left + 4), *range(right, right + 4)]
        assert line[-1] in ENDS


@pytest.mark.parametrize(("size", "lines", "columns"), [((4, 16), 2, 8), ((16, 8), 8, 4)])
def test_margins_are_left_out(size: tuple[int, int], lines: int, columns: int) -> None:
    layout = layout_of((8, 16)) if size[0] < size[1] else layout_of((16, 16))
    order = order_of(layout, *size)
    assert len(order) == PATCHES**2 + lines * (columns + 1)
    assert len(np.intersect1d(order[PATCHES**2 :], list(ENDS))) == 1


def test_a_prompt_has_a_token_for_each_row() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 4)).save(file, "PNG")
    media = Media(type="image/png", data=file.getvalue())
    prompt = PicturePrompt(marker="<image>", token="<row>", token_id=7, before="(", after=")")
    pictures = read_by(LAYOUT, prompt, max_pixels=128)
    taken = pictures.read(media)
    assert taken.order is not None
    assert pictures.written(media).text == f"({'<row>' * len(taken.order)})"
    assert [piece.shape for piece in taken.pieces] == [(3, SIDE, SIDE)] * 3
    with pytest.raises(MessageTooLarge, match="16 x 8 pixels; 127 in all"):
        read_by(LAYOUT, prompt, max_pixels=127).read(media)


def test_a_picture_that_is_not_cut_is_the_whole_alone() -> None:
    whole = layout_of()
    assert order_of(whole, 8, 16).tolist() == order_of(LAYOUT, 8, 16)[: PATCHES**2].tolist()
    prompt = PicturePrompt(marker="<image>", token="<row>", token_id=7)
    frame = Media(type="image/x-raw", data=bytes(24), shape=(2, 4, 3), dtype="uint8")
    taken = read_by(whole, prompt, max_pixels=64).read(frame)
    assert [piece.shape for piece in taken.pieces] == [(3, SIDE, SIDE)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resolutions": ((8, 12),)}, "no multiple of a tile's 8 pixels"),
        ({"rows": 16}, "16 rows are not 4 x"),
        ({"steps": steps_of(8, 9)}, "to a square"),
    ],
)
def test_a_layout_agrees_with_itself(changes: dict[str, object], reason: str) -> None:
    fields = {name: getattr(LAYOUT, name) for name in LAYOUT.__struct_fields__}
    with pytest.raises(ValueError, match=reason):
        AnyresPicture(**(fields | changes))
