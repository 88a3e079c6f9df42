"""Pictures as PNG files, with texts in them; without a library, since only this one form is
written."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MEDIA_TYPE = "image/png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR = 2
_UP = 2
"""The filter that tells each line by its difference from the one above."""
_LEVEL = 6


def png_of(pixels: NDArray[np.uint8], texts: Mapping[str, str]) -> bytes:
    """A picture uint8 [H, W, 3] as a PNG file; `texts` by keywords of 1 to 79 Latin letters."""
    height, width, _ = pixels.shape
    lines = pixels.reshape(height, width * 3)
    told = np.empty((height, width * 3 + 1), np.uint8)
    told[:, 0] = _UP
    told[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=told[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _TRUECOLOUR, 0, 0, 0)
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    for keyword, text in texts.items():
        # Uncompressed, in no stated language.
        body = keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
        parts.append(_chunk(b"iTXt", body))
    parts += [_chunk(b"IDAT", zlib.compress(told.data, _LEVEL)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
