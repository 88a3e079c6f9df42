"""Bytes of a picture to pixels in RGB, by Pillow; and raw frames.

What a picture says of itself is followed as viewers do: EXIF orientation, transparency (over
white), palettes, CMYK; of 16 bits the upper 8 count, of an animation the first frame. Colour
profiles are passed over, as transformers' image processors do.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.errors import InvalidMedia, MessageTooLarge
from nsedge.runtime.vision import gif
from nsedge.runtime.vision.films import FilmFrame

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
TOLD = "JPEG, PNG, WebP, GIF or BMP"
LONGEST_REASON = 200
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's number of it, what brings a picture upright."""
SIDEWAYS = frozenset(turn for number, turn in TURNS.items() if number > 4)
"""Those that exchange height and width."""
Pixels = NDArray[np.uint8]

# Every picture is held to a limit of ours as soon as its size is known, before it is decoded.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage in what is passed over


def decode(media: Media, *, max_pixels: int) -> Image.Image:
    """The picture in RGB, 8 bits a channel, upright.

    Raises:
        InvalidMedia: it is none in a known format, or damaged.
        MessageTooLarge: it has more than `max_pixels`.
    """
    if isinstance(media, FilmFrame):
        return cast(Image.Image, media.picture())
    if media.type == RAW_PICTURE:
        return _of_frame(media, max_pixels)
    try:
        _check_gif(media.data, max_pixels)
        with Image.open(io.BytesIO(media.data), formats=FORMATS) as opened:
            check_pixels(*opened.size, max_pixels=max_pixels)
            opened.load()
            return _upright(in_rgb(opened), opened)
    except UnidentifiedImageError as error:
        raise InvalidMedia(f"{len(media.data)} bytes are no picture in {TOLD}") from error
    except (InvalidMedia, MessageTooLarge):
        raise
    except Exception as error:  # a decoder's own, of any type
        raise InvalidMedia(f"the picture cannot be decoded: {reason(error)}") from error


def measure(media: Media, *, max_pixels: int) -> tuple[int, int]:
    """Height and width of the picture as `decode` gives it, of most formats without decoding it;
    raises as `decode` does."""
    if isinstance(media, FilmFrame):
        return media.size
    if media.type == RAW_PICTURE:
        height, width, _ = media.shape
        return height, width
    try:
        _check_gif(media.data, max_pixels)
        with Image.open(io.BytesIO(media.data), formats=FORMATS) as opened:
            check_pixels(*opened.size, max_pixels=max_pixels)
            if opened.format == "PNG":  # its EXIF may come behind the pixels
                opened.load()
            turned = _turn_of(opened) in SIDEWAYS
    except UnidentifiedImageError as error:
        raise InvalidMedia(f"{len(media.data)} bytes are no picture in {TOLD}") from error
    except (InvalidMedia, MessageTooLarge):
        raise
    except Exception as error:  # a decoder's own, of any type
        raise InvalidMedia(f"the picture cannot be decoded: {reason(error)}") from error
    width, height = opened.size
    return (width, height) if turned else (height, width)


def _check_gif(data: bytes, max_pixels: int) -> None:
    """Refuse a GIF that is made too large by its first frame, for which opening makes memory."""
    if data.startswith(gif.SIGNATURES):
        first = next(gif.frames(data))
        check_pixels(first.width, first.height, max_pixels=max_pixels)


def check_pixels(width: int, height: int, *, max_pixels: int) -> None:
    """Refuse a picture of more than `max_pixels`.

    Raises:
        MessageTooLarge: telling its size and the setting.
    """
    if width * height > max_pixels:
        raise MessageTooLarge(
            f"a picture of {width} x {height} pixels; {max_pixels} in all may be read"
            " (engine.max_picture_pixels)"
        )


def in_rgb(image: Image.Image) -> Image.Image:
    """A picture in 8 bits a channel, over white where it is clear."""
    if image.mode.startswith("I"):  # grey in 16 bits, which Pillow would clip
        levels: NDArray[Any] = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF) >> 8
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def reason(error: Exception) -> str:
    """What a decoder says, in a line."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """`image`, turned as the file that was `opened` says."""
    turn = _turn_of(opened)
    return image if turn is None else image.transpose(turn)


def _turn_of(opened: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright; what EXIF cannot be read says nothing."""
    try:
        return TURNS.get(int(opened.getexif().get(ORIENTATION, 1)))
    except Exception:  # a damaged block of EXIF, which viewers pass over
        return None


def _of_frame(media: Media, max_pixels: int) -> Image.Image:
    """A raw frame [H, W, C]: grey, RGB or RGBA, in levels to 255, to 65,535, or from 0 to 1."""
    height, width, channels = media.shape
    check_pixels(width, height, max_pixels=max_pixels)
    frame: NDArray[Any] = np.frombuffer(media.data, np.dtype(media.dtype).newbyteorder("<"))
    if media.dtype == "float32":
        if not np.isfinite(frame).all() or frame.min() < 0 or frame.max() > 1:
            raise InvalidMedia("a frame of float32 has numbers from 0 to 1")
        frame = np.rint(frame * 255)
    elif media.dtype == "uint16":
        frame = frame >> 8
    levels = frame.astype(np.uint8).reshape(height, width, channels)
    if channels == 1:
        levels = levels[..., 0]
    return in_rgb(Image.fromarray(levels))
