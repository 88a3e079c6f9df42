"""Pictures as PNG files, as Pillow reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nsedge.runtime.vision.png import png_of


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (33, 65)])
def test_pixels_and_texts_come_back(height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    text = "a café\nSeed: 1 – 猫"
    with Image.open(io.BytesIO(png_of(pixels, {"parameters": text}))) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (width, height))
        assert (np.asarray(image) == pixels).all()
        assert image.text == {"parameters": text}
