"""What Phi-4-multimodal's encoders take: the same features, crops, masks and counts as those of
transformers' processors, and chunks of long sounds whose rows are those of the whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import (
    Phi4MultimodalFeatureExtractor,
)

from exporters.model.phi4 import PhiSource
from exporters.vision_lm import phi4
from exporters.vision_lm.records import SoundRecord, sound_session
from nsedge.api import Media
from nsedge.bundle.vision_lm import CroppedPicture
from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.fbank import FilterBank
from nsedge.runtime.graph.sound_encoder import order_of, pieces_of
from nsedge.runtime.vision.crops import arrangement, frame_of, patches_of
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.preparing import prepare_crops
from tests.export.tiny_dual_encoders import PHOTOGRAPH
from tests.export.tiny_phi4 import PATCH, SIDE, make_phi4, write_tokenizer

pytestmark = pytest.mark.export

SIZES = [(448, 448), (449, 448), (200, 300), (37, 400), (900, 450), (1500, 400), (2000, 2100)]
ON_A_SIDE = SIDE // PATCH


def source_of(folder: Path) -> PhiSource:
    (folder / "config.json").write_text("{}")
    (folder / "preprocessor_config.json").write_text('{"dynamic_hd": 4}')
    return PhiSource(folder=folder, origin="")


@pytest.mark.parametrize("samples", [400, 401, 560, 16000, 54321, 160 * 1003 + 400])
def test_features_are_those_of_transformers(samples: int, tmp_path: Path) -> None:
    source = source_of(tmp_path)
    told = source.features()
    bank = FilterBank(told, phi4.filters(source, told))
    sound = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    sound[: samples // 3] *= 1e-4  # so quiet that the floor is reached
    wanted = Phi4MultimodalFeatureExtractor()([sound], sampling_rate=16000, return_tensors="np")
    found = bank.features(sound)
    assert np.abs(found - wanted["audio_input_features"][0]).max() < 1e-4
    assert len(found) == bank.frames(samples)
    assert bank.rows(samples) == wanted["audio_embed_sizes"][0]


def by_transformers(image: Image.Image, most: int) -> tuple[Any, Any, int]:
    """Pixels [crops + 1, 3, H, W], masks and tokens of a picture, by the steps of
    Phi4MultimodalImageProcessorFast, which wants torchvision for two functions of PyTorch's."""
    tensor = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    high, wide = tensor.shape[-2:]
    columns, rows = -(-wide // SIDE), -(-high // SIDE)
    if columns * rows > most:
        ratios = {(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i * j <= most}
        area, best, least = wide * high, (1, 1), float("inf")
        for ratio in sorted(ratios, key=lambda one: one[0] * one[1]):
            off = abs(wide / high - ratio[0] / ratio[1])
            if off < least or (off == least and area > 0.5 * SIDE * SIDE * ratio[0] * ratio[1]):
                best, least = ratio, off
        columns, rows = best
    target = rows * SIDE, columns * SIDE
    across, down = target[1] / wide, target[0] / high
    size = (int(high * across), target[1]) if across < down else (target[0], int(wide * down))
    margin = target[0] - size[0], target[1] - size[1]
    mask = torch.ones(rows * ON_A_SIDE, columns * ON_A_SIDE)
    if margin[1] >= PATCH:
        mask[:, -(margin[1] // PATCH) :] = 0
    if margin[0] >= PATCH:
        mask[-(margin[0] // PATCH) :, :] = 0
    interpolate = torch.nn.functional.interpolate
    resized = interpolate(tensor[None], size, mode="bilinear", antialias=True)
    whole = torch.nn.functional.pad(resized, (0, margin[1], 0, margin[0]), value=255)
    pixels = (whole.float() / 255 - 0.5) / 0.5
    small = interpolate(pixels, (SIDE, SIDE), mode="bicubic", align_corners=False)
    parts = pixels.reshape(3, rows, SIDE, columns, SIDE).permute(1, 3, 0, 2, 4)
    masks = mask.reshape(rows, ON_A_SIDE, columns, ON_A_SIDE).transpose(1, 2)
    halved = mask[::2, ::2]
    tokens = 256 + 1 + int(halved.sum()) + int(halved[:, 0].sum()) + 16
    return (
        torch.cat([small, parts.reshape(-1, 3, SIDE, SIDE)]).numpy(),
        masks.reshape(-1, ON_A_SIDE, ON_A_SIDE).bool().numpy(),
        tokens,
    )


def photograph(height: int, width: int) -> tuple[Image.Image, Media]:
    with Image.open(PHOTOGRAPH) as whole:
        image = whole.convert("RGB").resize((width, height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return image, Media(type="image/png", data=file.getvalue())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_crops_masks_and_counts_are_those_of_transformers(
    height: int, width: int, tmp_path: Path
) -> None:
    layout = source_of(tmp_path).crops()
    image, media = photograph(height, width)
    pixels, masks, tokens = by_transformers(image, layout.most)
    taken = prepare_crops(media, layout, max_pixels=10**8)
    assert len(arrangement(layout, frame_of(layout, height, width))) == tokens
    assert np.array_equal(taken.order, arrangement(layout, frame_of(layout, height, width)))
    crops = np.stack([crop.pixels for crop in taken.pieces[1:]])
    found = normalised(crops, level_table(layout.steps))
    # PyTorch weighs pixels in 16 bits where Pillow has 22: a level apart, of 127.5 a unit.
    off = np.abs(found - pixels[1:])
    assert off.max() < 1.01 / 127.5
    assert (off > 1e-5).mean() < 0.05
    whole = (taken.pieces[0].pixels / 255 - 0.5) / 0.5
    assert np.abs(whole - pixels[0]).max() < 2.5 / 127.5
    seen = np.stack([crop.bias == 0 for crop in taken.pieces[1:]]).reshape(masks.shape)
    assert np.array_equal(seen, masks)


def test_the_whole_is_made_smaller_as_pytorch_does(tmp_path: Path) -> None:
    layout = source_of(tmp_path).crops()
    _, media = photograph(900, 1300)  # fits two crops by three, and is not resized by less
    taken = prepare_crops(media, layout, max_pixels=10**8)
    crops = np.stack([crop.pixels for crop in taken.pieces[1:]])
    frame = frame_of(layout, 900, 1300)
    canvas = crops.reshape(frame.rows, frame.columns, 3, SIDE, SIDE).transpose(2, 0, 3, 1, 4)
    levels = torch.from_numpy(canvas.reshape(1, 3, frame.rows * SIDE, -1).astype(np.float32))
    wanted = torch.nn.functional.interpolate(
        levels, (SIDE, SIDE), mode="bicubic", align_corners=False
    )
    assert np.abs(taken.pieces[0].pixels - wanted[0].numpy()).max() < 1e-3


@pytest.mark.parametrize("kept", range(1, ON_A_SIDE + 1))
def test_patches_are_spread_over_the_table_as_the_model_spreads_them(
    kept: int, tmp_path: Path
) -> None:
    layout = source_of(tmp_path).crops()
    model = make_phi4(259, 260)
    tower = model.model.embed_tokens_extend.image_embed.img_processor.embeddings
    asked: list[torch.Tensor] = []
    tower.position_embedding.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    mask = torch.zeros(1, ON_A_SIDE, ON_A_SIDE, dtype=torch.bool)
    mask[0, :kept, : 33 - kept] = True
    with torch.no_grad():
        tower(torch.zeros(1, 3, SIDE, SIDE), mask)
    size = kept * PATCH, (33 - kept) * PATCH
    frame = frame_of(layout, SIDE, SIDE)
    frame = type(frame)(size=size, rows=1, columns=1, patches=(kept, 33 - kept))
    _, places = patches_of(layout, frame, 0, 0)
    assert np.array_equal(places, asked[0][0].numpy())


def test_what_is_too_long_for_its_width_is_refused(tmp_path: Path) -> None:
    layout: CroppedPicture = source_of(tmp_path).crops()
    with pytest.raises(InvalidMedia, match="a picture of 9000 x 20 pixels is too long"):
        frame_of(layout, 20, 9000)


def test_a_long_sound_in_chunks_is_the_whole_of_it(tmp_path: Path) -> None:
    """Of 3 minutes and some: the rows of five chunks, one after the other."""
    source = source_of(tmp_path)
    model = make_phi4(*write_tokenizer(tmp_path))
    phi4.make_sound_encoder(model, source, tmp_path)
    record = SoundRecord.read(tmp_path)
    assert record.difference < 1e-5
    features = np.random.default_rng(2).random((18_003, 80)).astype(np.float32) * 16
    pieces = pieces_of(features, record.told)
    assert len(pieces) == 5
    made = np.concatenate(sound_session(tmp_path, record).run(pieces))
    for beside in (False, True):
        wanted = phi4.sound_rows(model, features, "vision" if beside else "speech")
        found = made[order_of(pieces, len(wanted), beside=beside)]
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
