"""Animations in GIF and WebP, frame by frame, by Pillow; how long each is shown is read from the
file itself, so that nothing is decoded for that.

A frame that is said to be shown for 10 ms or less is shown for 100 ms, as browsers do.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image

from nsedge.errors import InvalidMedia, NsedgeError
from nsedge.runtime.vision.budget import TimeBudget
from nsedge.runtime.vision.decoding import check_pixels, in_rgb, reason

SHORTEST_S = 0.011
USUAL_S = 0.1
_GIF_HEAD = 13
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9
_WEBP_HEAD = 12


class Animation:
    """A GIF or WebP, from front to back."""

    def __init__(self, data: bytes, *, max_pixels: int, budget: TimeBudget) -> None:
        """Read its header and how long its frames are shown.

        Raises:
            InvalidMedia: it is damaged, or breaks off.
            MessageTooLarge: its frames have more than `max_pixels`.
        """
        self._data, self._budget = data, budget
        webp = data[:4] == b"RIFF"
        shown = list(_webp_delays(data) if webp else _gif_delays(data, max_pixels=max_pixels))
        self.times = [0.0]
        for delay in shown:
            self.times.append(self.times[-1] + (delay if delay >= SHORTEST_S else USUAL_S))
        self.end_s = self.times.pop()
        self._image = self._opened()
        check_pixels(*self._image.size, max_pixels=max_pixels)
        self.size = self._image.height, self._image.width

    def frame(self, number: int) -> Image.Image:
        """A frame in RGB.

        Raises:
            InvalidMedia: it cannot be decoded.
            MessageTooLarge: that takes too long.
        """
        try:
            if number < self._image.tell():
                self._image = self._opened()
            for passed in range(self._image.tell(), number + 1):
                self._budget.check()
                self._image.seek(passed)
                self._image.load()
            return in_rgb(self._image)
        except NsedgeError:
            raise
        except Exception as error:  # a decoder's own, of any type
            raise InvalidMedia(f"its frame {number} cannot be decoded: {reason(error)}") from error

    def _opened(self) -> Image.Image:
        try:
            return Image.open(io.BytesIO(self._data), formats=("GIF", "WEBP"))
        except Exception as error:  # a decoder's own, of any type
            raise InvalidMedia(f"it cannot be read: {reason(error)}") from error


def _gif_delays(data: bytes, *, max_pixels: int) -> Iterator[float]:
    """Seconds for which each frame of a GIF is shown. Raises MessageTooLarge for a frame that
    reaches so far out of the GIF that it has more pixels."""
    at, delay_s, count = _GIF_HEAD + _colours(data, 10), 0.0, 0
    while (kind := _byte(data, at)) != _END:
        if kind == _EXTENSION:
            if _byte(data, at + 1) == _CONTROL:
                delay_s = int.from_bytes(data[at + 4 : at + 6], "little") / 100
            at = _behind_blocks(data, at + 2)
        elif kind == _IMAGE:
            yield delay_s
            delay_s, count = 0.0, count + 1
            left, top, width, height = _placed(data, at + 1)
            check_pixels(left + width, top + height, max_pixels=max_pixels)
            at = _behind_blocks(data, at + 11 + _colours(data, at + 9))
        else:
            raise InvalidMedia(f"the GIF is damaged behind frame {count}")
    if not count:
        raise InvalidMedia("the GIF has no frames")


def _colours(data: bytes, at: int) -> int:
    """Bytes of the table of colours that the flags at `at` tell of."""
    flags = _byte(data, at)
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _placed(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a frame, told at `at`."""
    _byte(data, at + 7)
    return struct.unpack_from("<4H", data, at)


def _behind_blocks(data: bytes, at: int) -> int:
    while size := _byte(data, at):
        at += 1 + size
    return at + 1


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise InvalidMedia("the GIF breaks off")
    return data[at]


def _webp_delays(data: bytes) -> Iterator[float]:
    """Seconds for which each frame of a WebP is shown; one that is no animation has one."""
    at, count = _WEBP_HEAD, 0
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise InvalidMedia("the WebP breaks off")
    while at + 8 <= len(data):
        if data[at : at + 4] == b"ANMF":
            count += 1
            yield int.from_bytes(data[at + 20 : at + 23], "little") / 1000
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    if not count:
        yield 0.0
