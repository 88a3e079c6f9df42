"""Every form of picture comes out in RGB and upright; what is none is told in one line."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.errors import InvalidMedia, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.runtime.vision.decoding import ORIENTATION, decode, measure

MOST = 1_000_000
RED, BLUE = (250, 10, 20), (5, 20, 240)


def two_halves(size: tuple[int, int] = (16, 8)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> Media:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Media(type=f"image/{kind.lower()}", data=file.getvalue())


def pixels(media: Media, *, most: int = MOST) -> NDArray[np.uint8]:
    image = decode(media, max_pixels=most)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("kind", "options", "off"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 8),
        ("GIF", {}, 0),
    ],
)
def test_formats(kind: str, options: dict[str, Any], off: int) -> None:
    wanted = np.asarray(two_halves(), np.int64)
    found = pixels(encoded(two_halves(), kind, **options))
    assert np.abs(found - wanted).max() <= off


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_says_which_way_is_up(turn: int) -> None:
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6)
    ways = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    stored = Image.fromarray(np.ascontiguousarray(ways[turn])).convert("RGB")
    found = pixels(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(found[..., 0], upright)


def test_what_exif_says_in_vain_is_passed_over() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 77
    assert pixels(encoded(two_halves(), "PNG", exif=exif)).shape == (8, 16, 3)
    spoilt = encoded(two_halves(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert pixels(spoilt).shape == (8, 16, 3)


def test_what_is_clear_lies_over_white() -> None:
    image = two_halves().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert (pixels(encoded(image, "PNG")) == 255).all()
    image.putalpha(Image.new("L", image.size, 128))
    half = pixels(encoded(image, "WEBP", lossless=True, exact=True))[0, 0].astype(int)
    assert np.abs(half - (np.array(RED) * 128 + 255 * 127) / 255).max() <= 1
    grey = Image.new("LA", (4, 4), (0, 0))
    assert (pixels(encoded(grey, "PNG")) == 255).all()


def test_palettes_and_their_clear_colour() -> None:
    image = two_halves().quantize(2)
    assert set(map(tuple, pixels(encoded(image, "PNG")).reshape(-1, 3))) == {RED, BLUE}
    clear = image.getpixel((0, 0))
    found = pixels(encoded(image, "PNG", transparency=clear))
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert tuple(found[0, -1]) == BLUE
    assert tuple(pixels(encoded(image, "GIF", transparency=clear))[0, 0]) == (255, 255, 255)


def test_of_16_bits_the_upper_8_count() -> None:
    levels = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], np.uint16)
    found = pixels(encoded(Image.fromarray(levels), "PNG"))
    assert found[0, :, 0].tolist() == [0, 0, 1, 0x7F, 0xFF]
    assert (found[..., 0] == found[..., 2]).all()


def test_cmyk_grey_and_black_and_white() -> None:
    ink = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    red = pixels(encoded(ink, "JPEG", quality=100))[0, 0].astype(int)
    assert np.abs(red - (255, 0, 0)).max() <= 4
    assert (pixels(encoded(Image.new("L", (4, 4), 77), "PNG")) == 77).all()
    assert (pixels(encoded(Image.new("1", (4, 4), 1), "PNG")) == 255).all()


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_of_an_animation_the_first_frame_is_seen(kind: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    made = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels(made)[0, 0].astype(int) - RED).max() <= 2


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(MessageTooLarge, match=r"16 x 8 pixels; 127 in all may be read"):
        decode(encoded(two_halves(), "PNG"), max_pixels=127)
    # A header that promises 30,000 x 30,000, with nothing behind it to decode.
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT\x35\xaf\x06\x1e"
    with pytest.raises(MessageTooLarge, match="30000 x 30000 pixels"):
        decode(Media(type="image/png", data=bomb), max_pixels=64_000_000)


@pytest.mark.parametrize(
    "corner", [(0, 0, 60_000, 60_000), (60_000, 60_000, 8, 8), (0, 0, 1, 60_000)]
)
def test_a_first_frame_that_is_larger_than_its_gif_says_is_not_opened(
    corner: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening makes memory for all of it where it is cleared to the background."""
    whole = encoded(two_halves(), "GIF").data
    place = whole.index(b"\x2c\0\0\0\0")
    data = whole[: place + 1] + struct.pack("<4H", *corner) + whole[place + 9 :]
    monkeypatch.delattr(Image, "open")
    for read in (decode, measure):
        with pytest.raises(MessageTooLarge, match=r"600\d\d pixels"):
            read(Media(type="image/gif", data=data), max_pixels=100_000)


@pytest.mark.parametrize(
    "blocks", [b"\x21\xf9\0\0", b"\x21\xff\x0bNETSCAPE2.0\0\0", b"\x21\x01\0\0"]
)
def test_blocks_of_a_gif_that_others_read_otherwise_are_refused(blocks: bytes) -> None:
    whole = encoded(two_halves(), "GIF").data
    place = whole.index(b"\x2c\0\0\0\0")
    with pytest.raises(InvalidMedia, match="an extension says nothing"):
        measure(
            Media(type="image/gif", data=whole[:place] + blocks + whole[place:]), max_pixels=MOST
        )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"not a picture", r"13 bytes are no picture in JPEG, PNG, WebP, GIF or BMP"),
        (b"\x89PNG\r\n\x1a\n", "no picture in|cannot be decoded"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "no picture in|cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_told_in_a_line(data: bytes, told: str) -> None:
    with pytest.raises(InvalidMedia, match=told) as caught:
        decode(Media(type="image/png", data=data), max_pixels=MOST)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_picture_that_is_cut_off_is_damaged(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    cut = Media(type=whole.type, data=whole.data[: len(whole.data) // 2])
    with pytest.raises(InvalidMedia, match="cannot be decoded"):
        decode(cut, max_pixels=MOST)


@settings(max_examples=60)
@given(st.data())
def test_damage_of_any_kind_is_an_error_of_ours(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
    content = bytearray(encoded(two_halves(), kind).data)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NsedgeError):
        decode(Media(type="image/png", data=bytes(content)), max_pixels=MOST)


def frame(array: NDArray[Any]) -> Media:
    return Media(type=RAW_PICTURE, data=array.tobytes(), shape=array.shape, dtype=str(array.dtype))


def test_raw_frames() -> None:
    levels = np.asarray(two_halves())
    assert np.array_equal(pixels(frame(levels)), levels)
    assert np.array_equal(pixels(frame(levels.astype(np.uint16) << 8)), levels)
    assert np.array_equal(pixels(frame((levels / 255).astype(np.float32))), levels)
    assert (pixels(frame(levels[..., :1]))[..., 2] == levels[..., 0]).all()
    clear = np.concatenate([levels, np.zeros((8, 16, 1), np.uint8)], axis=2)
    assert (pixels(frame(clear)) == 255).all()


def test_frames_of_impossible_numbers_are_refused() -> None:
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(InvalidMedia, match="numbers from 0 to 1"):
            decode(frame(np.full((2, 2, 3), wrong, np.float32)), max_pixels=MOST)
    with pytest.raises(MessageTooLarge, match="2 x 2 pixels"):
        decode(frame(np.zeros((2, 2, 3), np.uint8)), max_pixels=3)


@pytest.mark.parametrize(
    ("media", "told"),
    [
        (Media(type=RAW_PICTURE, data=b"x" * 12, shape=(2, 2, 3), dtype="int8"), "dtype of a"),
        (Media(type=RAW_PICTURE, data=b"x" * 12, shape=(2, 6), dtype="uint8"), "shape of a frame"),
        (Media(type=RAW_PICTURE, data=b"x" * 8, shape=(2, 2, 2), dtype="uint8"), "1, 3 or 4"),
        (Media(type=RAW_PICTURE, data=b"x" * 8, shape=(0, 2, 3), dtype="uint8"), "shape of"),
        (Media(type=RAW_PICTURE, data=b"x", shape=(2, 2, 3), dtype="uint8"), "has 12 bytes, not 1"),
        (
            Media(type="image/png", data=b"x", shape=(1, 1, 1)),
            r"shape and dtype are of image/x-raw",
        ),
    ],
)
def test_a_frame_is_as_it_says(media: Media, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        media.check()
