"""Qwen2-VL's pictures and positions: the same patches, windows and numbers as transformers has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporters.errors import Refused
from exporters.model.patched import read_patched
from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import FilmPrompt
from nsedge.errors import InvalidMedia
from nsedge.runtime.decode.positions import Block, Positions
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.patches import patches_of, places_of, windows_of
from nsedge.runtime.vision.shown import PromptPictures
from tests.export.test_tiles import SIZES, photograph
from tests.export.tiny_encoders import write_json
from tests.export.tiny_vision_lms import (
    QWEN_TEMPLATE,
    QWEN_TOKENS,
    image_processor,
    make_vision_lm,
    write_tokenizer,
)
from tests.export.vision_rig import qwen_processor

pytestmark = pytest.mark.export

FAMILY = "qwen2_5_vl"
IMAGE: dict[str, Any] = {"patch_size": 8, "spatial_merge_size": 2, "window_size": 32}
START, END, ROW, _ = QWEN_TOKENS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen")
    image_processor(FAMILY).save_pretrained(made)
    token_id = write_tokenizer(made, QWEN_TEMPLATE, token=ROW)
    ids = {f"vision_{side}_token_id": token_id - n for side, n in (("start", 2), ("end", 1))}
    told = {"model_type": FAMILY, "image_token_id": token_id, "vision_config": IMAGE, **ids}
    write_json(made / "config.json", told)
    return made


def read_by(folder: Path) -> tuple[PatchedPicture, PromptPictures]:
    source = VisionSource(folder=folder, origin="tiny", revision=None)
    layout = source.pictures(0)
    assert isinstance(layout, PatchedPicture)
    bounds: dict[str, Any] = {"films": FilmLimits(), "context": 512, "max_pixels": 10**8}
    return layout, PromptPictures(layout, source.prompt(), FilmPrompt(), **bounds)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (190, 2), (77, 231)])
def test_pictures_and_prompts_are_those_of_transformers(
    height: int, width: int, folder: Path
) -> None:
    import transformers

    layout, pictures = read_by(folder)
    image, media = photograph(height, width)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    processor = qwen_processor(
        FAMILY,
        image_processor=image_processor(FAMILY),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    said = f"a {START}{ROW}{END} b"
    wanted = processor(text=said, images=[image], return_tensors="np")
    written, (piece,) = pictures.written(media), pictures.read(media).pieces
    patches = patches_of(layout, normalised(piece[None], level_table(layout.steps))[0])
    assert np.abs(patches - wanted["pixel_values"]).max() < 1e-6
    assert written.grid is not None
    rows, columns = written.grid
    assert wanted["image_grid_thw"].tolist() == [[1, 2 * rows, 2 * columns]]
    text = said.replace(f"{START}{ROW}{END}", written.text)
    assert tokenizer(text)["input_ids"] == wanted["input_ids"][0].tolist()


def test_shapes_that_transformers_refuses_are_refused(folder: Path) -> None:
    _, pictures = read_by(folder)
    image, media = photograph(2, 500)
    with pytest.raises(ValueError, match="must be smaller than 200"):
        image_processor(FAMILY)(images=[image])
    with pytest.raises(InvalidMedia, match=r"^a picture of 500 x 2 pixels"):
        pictures.written(media)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 5), (4, 7), (1, 9)])
def test_windows_and_positions_are_those_of_transformers(
    grid: tuple[int, int], folder: Path
) -> None:
    layout, _ = read_by(folder)
    rows, columns = grid
    model = make_vision_lm(FAMILY, 266).model
    thw = torch.tensor([[1, 2 * rows, 2 * columns]])
    index, ends = model.visual.get_window_index(thw)
    found = windows_of(layout, rows, columns)
    counts = [int(count) for count in np.diff(np.unique(ends))]
    assert found.filled.sum(axis=1).tolist() == counts
    patches = (index[:, None] * 4 + torch.arange(4)).flatten().tolist()
    assert found.slots[found.filled == 1].tolist() == patches
    angles = model.visual.rot_pos_emb(thw)
    places = torch.from_numpy(places_of(layout, rows, columns)).float()
    own = (places[..., None] * model.visual.rotary_pos_emb.inv_freq).flatten(1)
    assert torch.allclose(angles, own)


def test_positions_of_several_pictures_are_those_of_transformers() -> None:
    model = make_vision_lm(FAMILY, 266).model
    grids, ids, blocks = [(2, 3), (1, 1), (4, 2)], [5, 6], []
    for rows, columns in grids:
        ids.append(264)
        blocks.append(Block(place=len(ids), rows=rows, columns=columns))
        ids += [266] * (rows * columns) + [265, 7]
    thw = torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in grids])
    wanted, delta = model.get_rope_index(torch.tensor([ids]), thw)
    found = Positions.of(len(ids), blocks)
    assert found.of_prompt.tolist() == wanted[:, 0].tolist()
    assert -found.lag == int(delta)


@pytest.mark.parametrize(
    ("changes", "image", "reason"),
    [
        ({"patch_size": 14}, {}, "patch_size is 14, and the encoder's patch_size 8"),
        ({"merge_size": 1}, {}, "merge_size is 1, and the encoder's spatial_merge_size 2"),
        (
            {"patch_size": 0},
            {"patch_size": 0},
            "patch_size is 0, and the encoder's patch_size 0",
        ),
        ({"do_resize": False}, {}, "not resized have no form"),
        ({"min_pixels": "few"}, {}, "are no least and most pixels"),
        ({"min_pixels": 0}, {}, "least_pixels"),
        ({"min_pixels": None, "size": 448}, {}, "a size of 448 has no form"),
        ({"min_pixels": None, "size": {"height": 8, "width": 8}}, {}, "a size of .* has no form"),
        ({"min_pixels": 99999}, {}, "99999 pixels at least, and 10240 at most"),
        ({}, {"window_size": 9}, "windows of 9 pixels have no form"),
        ({"image_processor_type": "CLIPImageProcessor"}, {}, "'CLIPImageProcessor' has no form"),
    ],
)
def test_what_has_no_form_is_refused(
    changes: dict[str, Any], image: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    stated = image_processor(FAMILY).to_dict() | changes
    write_json(tmp_path / "preprocessor_config.json", stated)
    with pytest.raises(Refused, match=reason):
        read_patched(tmp_path, IMAGE | image)


def test_a_tower_with_windows_has_them_where_its_configuration_says_nothing(folder: Path) -> None:
    said = {key: value for key, value in IMAGE.items() if key != "window_size"}
    assert read_patched(folder, said, windowed=True).window == 112 // 16
    assert read_patched(folder, said).window == 0


def test_a_picture_without_its_borders_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    source = Source(folder=copy, origin="tiny", revision=None)
    write_json(copy / "config.json", {"model_type": FAMILY, "image_token_id": 266})
    seen = VisionSource(folder=source.folder, origin="tiny", revision=None)
    with pytest.raises(Refused, match="vision_start_token_id None names no token"):
        seen.prompt()
