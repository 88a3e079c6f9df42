"""Pictures in tiles: the same pixels, grids and prompts as transformers' processors make."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from transformers.models.idefics3.processing_idefics3 import get_image_prompt_string

from exporters.errors import Refused
from exporters.model.pictures import read_tiles
from exporters.model.vision_lm import AROUND, TEXTS, WHOLE
from nsedge.api import Media
from nsedge.bundle.vision_lm import TiledPicture
from nsedge.runtime.vision.decoding import measure
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.preparing import prepare_tiles
from nsedge.runtime.vision.tiles import grid_of, written
from tests.export.tiny_dual_encoders import PHOTOGRAPH
from tests.export.tiny_encoders import write_json

pytestmark = pytest.mark.export

SIZES = [(600, 512), (32, 32), (33, 32), (31, 200), (7, 5), (400, 37), (64, 64), (90, 61), (5, 500)]
"""None of 1 or 3 pixels' height: transformers takes these for channels."""


def layout_of(folder: Path, **settings: Any) -> tuple[TiledPicture, Any]:
    processor = transformers.Idefics3ImageProcessor(
        **{"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}, **settings}
    )
    processor.save_pretrained(folder)
    tiles = read_tiles(folder)
    layout = TiledPicture(
        steps=tiles.steps,
        rows=4,
        longest_edge=tiles.longest_edge,
        splits=tiles.splits,
        texts=TEXTS,
    )
    return layout, processor


def photograph(height: int, width: int) -> tuple[Image.Image, Media]:
    with Image.open(PHOTOGRAPH) as whole:
        image = whole.convert("RGB").resize((width, height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return image, Media(type="image/png", data=file.getvalue())


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tiles_are_those_of_transformers(
    height: int, width: int, splits: bool, tmp_path: Path
) -> None:
    layout, processor = layout_of(tmp_path, do_image_splitting=splits)
    image, media = photograph(height, width)
    wanted = processor(images=[image], return_row_col_info=True, return_tensors="np")
    tiles = prepare_tiles(media, layout, max_pixels=10**8)
    pixels = normalised(np.stack(tiles), level_table(layout.steps))
    assert np.abs(pixels - wanted["pixel_values"][0]).max() < 1e-6
    grid = grid_of(layout, *measure(media, max_pixels=10**8))
    rows, columns = (int(wanted[name][0][0]) if splits else 0 for name in ("rows", "cols"))
    assert (grid.rows, grid.columns, grid.tiles) == (rows, columns, len(tiles))
    told = get_image_prompt_string(rows, columns, 4, AROUND, "<image>", WHOLE)
    assert written(layout, "<image>", grid) == told
    assert told.count("<image>") == 4 * len(tiles)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_picture_is_measured_upright(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, kind, exif=exif)
    media = Media(type=f"image/{kind.lower()}", data=file.getvalue())
    assert measure(media, max_pixels=10**6) == ((20, 30) if turn < 5 else (30, 20))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": {"height": 4, "width": 4}}, "a size of .* has no form"),
        ({"max_image_size": {"longest_edge": 0}}, "whole numbers above 0"),
        ({"do_resize": False}, "not resized have no form"),
        ({"resample": 9}, "resample must be a filter's number"),
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor' has no form"),
    ],
)
def test_tiles_that_have_no_form_are_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write_json(
        tmp_path / "preprocessor_config.json",
        {"image_processor_type": "Idefics3ImageProcessor"} | changes,
    )
    with pytest.raises(Refused, match=reason):
        read_tiles(tmp_path)
