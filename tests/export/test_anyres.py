"""LLaVA-Next's pictures: the same pixels, and as many rows in prompts, as transformers has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from exporters.errors import Refused
from exporters.model.anyres import read_anyres
from nsedge.bundle.vision_lm import FilmPrompt, PicturePrompt
from nsedge.runtime.vision.films import FilmLimits
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.shown import PromptPictures
from tests.export.test_tiles import SIZES as TILE_SIZES
from tests.export.test_tiles import photograph
from tests.export.tiny_dual_encoders import PATCH, SIDE
from tests.export.tiny_encoders import write_json
from tests.export.tiny_vision_lms import RESOLUTIONS, TOKEN, image_processor, write_tokenizer

pytestmark = pytest.mark.export

SIZES = [size for size in TILE_SIZES if size != (5, 500)]
"""None that is 1 or 3 pixels high on its way: transformers takes these for channels."""

PROMPT = PicturePrompt(marker=TOKEN, token=TOKEN, token_id=260)
WHOLE: dict[str, Any] = {"image_grid_pinpoints": RESOLUTIONS}
IMAGE = {"image_size": SIDE, "patch_size": PATCH}


@pytest.mark.parametrize(("height", "width"), [*SIZES, (900, 2), (77, 231)])
def test_pictures_are_those_of_transformers(height: int, width: int, tmp_path: Path) -> None:
    made = image_processor("llava_next")
    made.save_pretrained(tmp_path)
    layout = read_anyres(tmp_path, WHOLE, IMAGE)
    image, media = photograph(height, width)
    wanted = made(images=[image], return_tensors="np")["pixel_values"][0]
    pictures = PromptPictures(
        layout, PROMPT, FilmPrompt(), max_pixels=10**8, films=FilmLimits(), context=512
    )
    taken = pictures.read(media)
    pixels = normalised(np.stack(taken.pieces), level_table(layout.steps))
    assert pixels.shape == wanted.shape
    assert np.abs(pixels - wanted).max() < 1e-6
    write_tokenizer(tmp_path)
    processor = transformers.LlavaNextProcessor(
        image_processor=made,
        tokenizer=transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    read = processor(text=f"a {TOKEN} b", images=[image])
    assert read["input_ids"][0].count(260) == pictures.written(media).text.count(TOKEN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_grid_pinpoints": [[32, 64]]}, "and the model's"),
        ({"crop_size": {"height": 16, "width": 16}}, "and the encoder takes 32 x 32"),
        ({"size": {"height": 8, "width": 9}}, "a?size of .* has no form"),
        ({"do_resize": False}, "not resized have no form"),
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor' has no form"),
    ],
)
def test_what_has_no_form_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    image_processor("llava_next").save_pretrained(tmp_path)
    stated = image_processor("llava_next").to_dict() | changes
    write_json(tmp_path / "preprocessor_config.json", stated)
    with pytest.raises(Refused, match=reason):
        read_anyres(tmp_path, WHOLE, IMAGE)


def test_resolutions_that_are_no_tiles_are_refused(tmp_path: Path) -> None:
    made = image_processor("llava_next")
    made.image_grid_pinpoints = [[32, 40]]
    made.save_pretrained(tmp_path)
    with pytest.raises(Refused, match="no multiple of a tile's 32 pixels"):
        read_anyres(tmp_path, {"image_grid_pinpoints": [[32, 40]]}, IMAGE)
