"""Films in MP4, MOV and WebM, frame by frame, by PyAV; the only module that imports it.

The container is read once for when each frame is shown, without decoding any. Frames are decoded
in their order from the last one before them that stands by itself, one at a time, so that an hour
takes no more memory than a second.
"""

from __future__ import annotations

import io
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from nsedge.errors import InvalidMedia
from nsedge.runtime.vision.boxes import MAX_SAMPLES, check_tables
from nsedge.runtime.vision.budget import TimeBudget
from nsedge.runtime.vision.decoding import check_pixels, reason

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores")
NAMED = "H.264, HEVC, VP8, VP9, AV1, MPEG-4, MJPEG or ProRes"
LEAST_SHARE = 0.9
"""Of a film's length by its header that has to be there."""
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
"""By degrees counterclockwise."""

av.logging.set_level(None)  # of damage, errors tell


class Container:
    """A film, from front to back."""

    def __init__(self, data: bytes, form: str, *, max_pixels: int, budget: TimeBudget) -> None:
        """Read when its frames are shown, and decode the first; `form` is FFmpeg's name of what it
        is: mov or matroska.

        Raises:
            InvalidMedia: it is damaged, breaks off, or has no frames in a form that is read.
            MessageTooLarge: its frames have more than `max_pixels`, or that takes too long.
        """
        if form == "mov":
            check_tables(data)
        self._data, self._form = data, form
        self._budget, self._max_pixels = budget, max_pixels
        self._passed = 0
        """Frames up to this time are gone."""
        self._rewind()
        self._scan()
        self._rewind()
        first = self.frame(0)
        self.size = first.height, first.width

    def frame(self, number: int) -> Image.Image:
        """A frame in RGB, upright.

        Raises:
            InvalidMedia: it cannot be decoded.
            MessageTooLarge: that takes too long.
        """
        wanted, key = self._pts[number], int(self._keys[number])
        if wanted < self._passed:
            self._rewind()
        with _told(number):
            if key > self._at:
                self._skip_to(key)
            while not (self._ready and _pts_of(self._ready[0]) >= wanted):
                if self._ready:
                    self._passed = _pts_of(self._ready.popleft())
                else:
                    self._decode_on()
            shown = self._ready[0]
            check_pixels(shown.width, shown.height, max_pixels=self._max_pixels)
            picture = Image.fromarray(shown.to_ndarray(format="rgb24"))
        turn = _TURNS.get(shown.rotation % 360)
        return picture if turn is None else picture.transpose(turn)

    def _rewind(self) -> None:
        """Open it anew."""
        with _told(None):
            opened = av.open(io.BytesIO(self._data), mode="r", format=self._form)
            self._stream = self._video_of(opened)
        self._packets: Iterator[Packet[VideoStream]] = iter(opened.demux(self._stream))
        self._ready: deque[VideoFrame] = deque()
        self._at = 0
        """The packet that is read next."""
        self._passed = -(1 << 63)

    def _video_of(self, opened: InputContainer) -> VideoStream:
        films = [one for one in opened.streams.video if not _is_cover(one)]
        if not films:
            others = ", ".join(sorted({one.type for one in opened.streams})) or "nothing"
            raise InvalidMedia(f"it holds no film: what is in it is {others}")
        stream = films[0]
        codec = stream.codec_context
        name = "no known form" if codec is None else codec.codec.canonical_name
        if name not in CODECS:
            raise InvalidMedia(f"its frames are in {name}; {NAMED} are read")
        for other in opened.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        check_pixels(codec.width, codec.height, max_pixels=self._max_pixels)
        codec.thread_count = 1
        codec.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _scan(self) -> None:
        """Find when each frame is shown, and where its decoding has to begin."""
        stream = self._stream
        shown, keys, dropped, last = array("q"), array("b"), array("b"), 0
        with _told(None):
            for packet in self._packets:
                self._budget.check()
                if packet.pts is None:
                    if packet.size:
                        raise InvalidMedia("a frame does not say when it is shown")
                    continue
                if packet.is_corrupt:
                    raise InvalidMedia(f"the film breaks off after {len(shown)} frames")
                shown.append(packet.pts)
                keys.append(packet.is_keyframe)
                dropped.append(packet.is_discard)
                last = max(last, packet.pts + (packet.duration or 0))
                if len(shown) > MAX_SAMPLES:
                    raise InvalidMedia(f"it has more than {MAX_SAMPLES} frames")
        pts = np.frombuffer(shown, np.int64)
        kept = np.flatnonzero(np.frombuffer(dropped, np.int8) == 0)
        if not len(kept) or stream.time_base is None:
            raise InvalidMedia("it has no frames")
        order = kept[np.argsort(pts[kept], kind="stable")]
        order = order[np.diff(pts[order], prepend=pts[order[0]] - 1) > 0]
        self._pts = pts[order]
        self._keys = _beginnings(pts, np.flatnonzero(np.frombuffer(keys, np.int8)), order)
        tick = float(stream.time_base)
        self.times: list[float] = ((self._pts - self._pts[0]) * tick).tolist()
        usual = np.diff(self._pts[-2:]).sum() if last <= self._pts[-1] else 0
        self.end_s = float(max(last, self._pts[-1] + usual) - self._pts[0]) * tick
        self._check_whole(len(shown))

    def _check_whole(self, packets: int) -> None:
        """Refuse a film of which less is there than its header tells."""
        stream = self._stream
        if stream.frames and packets < stream.frames * LEAST_SHARE:
            raise InvalidMedia(
                f"the film breaks off: {packets} frames are there, and its header tells of"
                f" {stream.frames}"
            )
        told_s = _length_of(stream)
        if told_s is not None and self.end_s < told_s * LEAST_SHARE - 1:
            raise InvalidMedia(
                f"the film breaks off after {self.end_s:.2f} s; its header tells of {told_s:.2f} s"
            )

    def _skip_to(self, packet: int) -> None:
        """Leave out all packets before one, whose frame stands by itself."""
        while self._at < packet:
            self._budget.check()
            self._following()
        self._stream.codec_context.flush_buffers()
        self._ready.clear()

    def _decode_on(self) -> None:
        """Decode the next packet; at the end, what the decoder still holds."""
        self._budget.check()
        self._ready.extend(self._following().decode())

    def _following(self) -> Packet[VideoStream]:
        """Read the next packet."""
        packet = next(self._packets, None)
        if packet is None:
            raise InvalidMedia("the film breaks off")
        self._at += 1
        return packet


def _beginnings(
    pts: NDArray[np.int64], keys: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each packet of `order`, the last before it, or itself, that stands by itself and is shown
    no later; the first of all where there is none."""
    if not len(keys):
        return np.zeros(len(order), np.int64)
    found = np.searchsorted(keys, order, side="right") - 1
    late = (found >= 0) & (pts[keys[found]] > pts[order])
    found[late] -= 1
    return np.where(found >= 0, keys[np.maximum(found, 0)], 0)


def _pts_of(frame: VideoFrame) -> int:
    """When it is shown; one that does not say is passed over."""
    return -(1 << 63) if frame.pts is None else frame.pts


def _is_cover(stream: VideoStream) -> bool:
    """Whether it is a picture that belongs to sound."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _length_of(stream: VideoStream) -> float | None:
    """Seconds that the header tells of the stream, or of a file that holds nothing else."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if said := stream.metadata.get("DURATION"):
        hours, _, rest = said.partition(":")
        minutes, _, seconds = rest.partition(":")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    container: Any = stream.container
    alone = len(container.streams) == 1 and container.duration is not None
    return container.duration / av.time_base if alone else None


@contextmanager
def _told(number: int | None) -> Iterator[None]:
    """Errors of FFmpeg as ours."""
    try:
        yield
    except (FFmpegError, ValueError, OverflowError) as error:
        what = "it cannot be read" if number is None else f"its frame {number} cannot be decoded"
        raise InvalidMedia(f"{what}: {reason(error)}") from error
