"""Pictures are prepared as transformers' own processors prepare them, of any shape, within 1e-4."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from exporters.model.pictures import read_steps
from nsedge.api import Media
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.preparing import prepare
from tests.export.tiny_dual_encoders import PHOTOGRAPH

pytestmark = pytest.mark.export

PROCESSORS = {
    "clip": transformers.CLIPImageProcessor(),
    "clip, small and odd": transformers.CLIPImageProcessor(
        size={"shortest_edge": 31}, crop_size={"height": 45, "width": 27}
    ),
    "clip, not resized": transformers.CLIPImageProcessor(do_resize=False),
    "clip, not normalised": transformers.CLIPImageProcessor(do_normalize=False, resample=2),
    "siglip": transformers.SiglipImageProcessor(size={"height": 96, "width": 128}),
    "siglip, not rescaled": transformers.SiglipImageProcessor(do_rescale=False),
    "deit": transformers.DeiTImageProcessor(),
    "deit, not cropped": transformers.DeiTImageProcessor(
        do_center_crop=False, size={"height": 48, "width": 32}
    ),
    "vit": transformers.ViTImageProcessor(),
    "vit, by the nearest": transformers.ViTImageProcessor(resample=0, rescale_factor=1 / 127.5),
}
SHAPES = ((224, 224), (300, 200), (37, 501), (16, 16), (225, 224), (2, 9))


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_is_met_within_1e_4(name: str, tmp_path: Path) -> None:
    processor: Any = PROCESSORS[name]
    processor.save_pretrained(tmp_path)
    steps = read_steps(tmp_path)
    random = np.random.default_rng(5)
    images = [Image.open(PHOTOGRAPH).convert("RGB")]
    images += [Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)) for shape in SHAPES]
    for image in images:
        wanted = processor(images=image, return_tensors="np")["pixel_values"][0]
        file = io.BytesIO()
        image.save(file, "PNG")
        media = Media(type="image/png", data=file.getvalue())
        levels = prepare(media, steps, max_pixels=10**9)
        found = normalised(levels[None], level_table(steps))[0]
        assert found.shape == wanted.shape == (3, *steps.size)
        assert np.abs(found - wanted).max() <= 1e-4


def test_a_file_may_be_silent(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224}'
    )
    steps = read_steps(tmp_path)
    whole = transformers.CLIPImageProcessor()
    assert steps.resize is not None
    assert (steps.resize.shortest_edge, steps.resize.filter) == (224, "bicubic")
    assert list(steps.mean) == whole.image_mean
    assert steps.size == (224, 224)


def test_a_deit_file_may_be_silent(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "DeiTFeatureExtractor"}'
    )
    steps, whole = read_steps(tmp_path), transformers.DeiTImageProcessor()
    assert steps.resize is not None
    assert (steps.resize.height, steps.resize.width) == (256, 256)
    assert steps.resize.filter == ("", "lanczos", "bilinear", "bicubic")[whole.resample]
    assert (list(steps.mean), list(steps.std)) == (whole.image_mean, whole.image_std)
    assert steps.size == (224, 224)
