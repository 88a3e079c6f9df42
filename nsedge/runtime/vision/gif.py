"""Frames of a GIF as its blocks tell of them, so that nothing is decoded for that.

Pillow makes memory for a frame when it comes to it, also for one that reaches out of the GIF. What
Pillow would read otherwise than it is read here is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from nsedge.errors import InvalidMedia

SIGNATURES = (b"GIF87a", b"GIF89a")
_HEAD = 13
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_LOOPS = b"NETSCAPE2.0"


class GifFrame(NamedTuple):
    """A frame. delay_s: for which it is shown. width, height: of the GIF with it, which grows by
    frames that reach out of it."""

    delay_s: float
    width: int
    height: int


def frames(data: bytes) -> Iterator[GifFrame]:
    """The frames of a GIF, one at least. Raises InvalidMedia where it is damaged or breaks off."""
    at, delay_s, count = _HEAD + _colours(data, 10), 0.0, 0
    width, height = struct.unpack_from("<2H", data, 6)
    while (kind := _byte(data, at)) != _END:
        if kind == _EXTENSION:
            if _byte(data, at + 1) == _CONTROL:
                delay_s = int.from_bytes(data[at + 4 : at + 6], "little") / 100
            at = _behind_extension(data, at + 1)
        elif kind == _IMAGE:
            _byte(data, at + 9)
            left, top, wide, high = struct.unpack_from("<4H", data, at + 1)
            width, height = max(width, left + wide), max(height, top + high)
            yield GifFrame(delay_s, width, height)
            delay_s, count = 0.0, count + 1
            at = _behind_blocks(data, at + 11 + _colours(data, at + 9))
        else:
            raise InvalidMedia(f"the GIF is damaged behind frame {count}")
    if not count:
        raise InvalidMedia("the GIF has no frames")


def _colours(data: bytes, at: int) -> int:
    """Bytes of the table of colours that the flags at `at` tell of."""
    flags = _byte(data, at)
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _behind_extension(data: bytes, at: int) -> int:
    """Behind the blocks of an extension, whose label is at `at`."""
    label, size = _byte(data, at), _byte(data, at + 1)
    first, behind = data[at + 2 : at + 2 + size], at + 2 + size
    loops = label == _APPLICATION and first.startswith(_LOOPS)
    if label != _COMMENT and (not size or (loops and not _byte(data, behind))):
        raise InvalidMedia("the GIF is damaged: an extension says nothing")
    return _behind_blocks(data, at + 1)


def _behind_blocks(data: bytes, at: int) -> int:
    while size := _byte(data, at):
        at += 1 + size
    return at + 1


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise InvalidMedia("the GIF breaks off")
    return data[at]
