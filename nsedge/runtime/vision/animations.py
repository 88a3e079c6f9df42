"""Animations in GIF and WebP, frame by frame, by Pillow; how long each is shown is read from the
file itself, so that nothing is decoded for that.

A frame that is said to be shown for 10 ms or less is shown for 100 ms, as browsers do.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from nsedge.errors import InvalidMedia, NsedgeError
from nsedge.runtime.vision.budget import TimeBudget
from nsedge.runtime.vision.decoding import check_pixels, in_rgb, reason
from nsedge.runtime.vision.gif import frames

SHORTEST_S = 0.011
USUAL_S = 0.1
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
    """Seconds for which each frame of a GIF is shown. Raises MessageTooLarge for a frame with which
    it has more pixels."""
    for frame in frames(data):
        check_pixels(frame.width, frame.height, max_pixels=max_pixels)
        yield frame.delay_s


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
