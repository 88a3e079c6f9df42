"""Pictures, sound and video as bytes with a type."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Self

from nsedge.errors import InvalidParameter

_TYPE = re.compile(r"(image|audio|video|application)/[a-z0-9][a-z0-9.+-]{0,62}")

RAW_PICTURE = "image/x-raw"
"""The type of a frame as it lies in memory: `shape` and `dtype` tell how."""
CHANNELS = (1, 3, 4)
"""Of a frame: grey, RGB, RGBA."""
NUMBER_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
"""The kinds of numbers that a frame may have, little-endian."""
LONGEST_SIDE = 65535
_SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}
"""How pictures begin, but for WebP."""
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
"""With what an MP4 or MOV may begin, behind the length of it."""
_FILM_TYPES = {
    "mov": "video/mp4",
    "matroska": "video/webm",
    "gif": "video/gif",
    "webp": "video/webp",
}


@dataclass(frozen=True, kw_only=True)
class Media:
    """Bytes of one picture, recording or film; `type` is their media type, such as image/png.

    Of RAW_PICTURE, `shape` is height, width and channels, and `dtype` the kind of its numbers:
    levels to 255 (uint8) or 65,535 (uint16), or from 0 to 1 (float32).
    """

    type: str
    data: bytes = field(repr=False)
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @classmethod
    def hashed(
        cls, *, type: str, data: bytes, sha256: str, shape: tuple[int, ...] = (), dtype: str = ""
    ) -> Self:
        """Media whose hash is known already."""
        media = cls(type=type, data=data, shape=shape, dtype=dtype)
        vars(media)["sha256"] = sha256
        return media

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal: their name."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def kind(self) -> str:
        """What it is: `image`, `audio`, `video` or `application`."""
        return self.type.partition("/")[0]

    def check(self) -> None:
        """Refuse a type that is none, empty data, and a frame that is not as it says.

        Raises:
            InvalidParameter: naming what is wrong.
        """
        if not _TYPE.fullmatch(self.type):
            raise InvalidParameter(f"{self.type!r} is no media type like image/png", param="type")
        if not self.data:
            raise InvalidParameter("the media is empty", param="data")
        if self.type == RAW_PICTURE:
            self._check_frame()
        elif self.shape or self.dtype:
            raise InvalidParameter(
                f"shape and dtype are of {RAW_PICTURE}, not of {self.type}", param="shape"
            )

    def _check_frame(self) -> None:
        if self.dtype not in NUMBER_BYTES:
            known = ", ".join(NUMBER_BYTES)
            raise InvalidParameter(
                f"the dtype of a frame is one of {known}, not {self.dtype!r}", param="dtype"
            )
        sides, channels = self.shape[:2], self.shape[2:]
        fits = len(sides) == 2 and all(1 <= side <= LONGEST_SIDE for side in sides)
        if not fits or len(channels) != 1 or channels[0] not in CHANNELS:
            raise InvalidParameter(
                "the shape of a frame is height, width and 1, 3 or 4 channels, not"
                f" {list(self.shape)}",
                param="shape",
            )
        size = math.prod(self.shape) * NUMBER_BYTES[self.dtype]
        if len(self.data) != size:
            raise InvalidParameter(
                f"a frame of {list(self.shape)} {self.dtype} has {size} bytes, not"
                f" {len(self.data)}",
                param="data",
            )


def sound_type(data: bytes) -> str | None:
    """The media type of sound by its first bytes; None where they tell of none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2):
        return "audio/mpeg"  # MPEG's frame sync, of layer III
    return {b"fLaC": "audio/flac", b"OggS": "audio/ogg"}.get(data[:4])


def picture_type(data: bytes) -> str | None:
    """The media type of a picture by its first bytes; None where they tell of none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for begin, kind in _SIGNATURES.items() if data.startswith(begin)), None)


def film_form(data: bytes) -> str | None:
    """What a film is by its first bytes: mov (MP4 is one), matroska (WebM is one), gif or webp;
    None where they tell of none."""
    if data[4:8] in _MOV_BOXES:
        return "mov"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    return {"image/gif": "gif", "image/webp": "webp"}.get(picture_type(data) or "")


def film_type(data: bytes) -> str | None:
    """The media type of a film by its first bytes; None where they tell of none."""
    form = film_form(data)
    return None if form is None else _FILM_TYPES[form]
