"""Sound that comes to a command while it is made: on standard input, or from a microphone."""

from __future__ import annotations

import contextlib
import importlib
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from nsedge.api import Feed, Mark, SoundForm
from nsedge.errors import InvalidMedia, InvalidParameter, OutOfOrder, Unavailable

MICROPHONE = "sounddevice"
"""The package that a microphone is read with; none of ours needs it."""
MICROPHONE_HZ = 16_000
PIECE_S = 0.1
"""Of sound that is read, or recorded, at once."""
_FORMS = {
    (1, 16): SoundForm.S16LE,
    (3, 32): SoundForm.F32LE,
    (6, 8): SoundForm.ALAW,
    (7, 8): SoundForm.ULAW,
}
"""By format and bits of a sample, as WAV has them."""
_EXTENSIBLE = 0xFFFE
"""The format whose real one stands further behind."""
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How samples lie."""

    form: SoundForm
    rate: int
    channels: int

    @property
    def piece_bytes(self) -> int:
        """Of so much sound as is moved at once."""
        return max(1, round(self.rate * PIECE_S)) * self.channels * self.form.sample_bytes


def raw_or_wav(stream: BinaryIO, rate: int | None) -> Shape:
    """How the samples of `stream` lie: with a rate, as 16 bits of one channel; else as its WAV
    header says, which is read. Raises as `wav_shape`."""
    if rate is not None:
        return Shape(form=SoundForm.S16LE, rate=rate, channels=1)
    return wav_shape(stream)


def wav_shape(stream: BinaryIO) -> Shape:
    """Read the header of a WAV file that is being written, up to its samples; what it says of their
    number counts for nothing.

    Raises:
        InvalidMedia: it is no WAV file, or of a kind that is not read as it comes.
    """
    head = _read(stream, 12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise InvalidMedia(
            "sound that comes is WAV, or samples alone with --raw HZ; this is neither"
        )
    shape: Shape | None = None
    left = MAX_HEADER_BYTES
    while left > 0:
        name, size = struct.unpack("<4sI", _exactly(stream, 8))
        if name == b"data":
            if shape is None:
                raise InvalidMedia("the WAV file does not say how its samples lie")
            return shape
        body = _exactly(stream, min(size + size % 2, left))
        left -= 8 + len(body)
        if name == b"fmt ":
            shape = _shape(body)
    raise InvalidMedia("the WAV file has no samples where they should be")


def _shape(body: bytes) -> Shape:
    if len(body) < 16:
        raise InvalidMedia("the WAV file does not say how its samples lie")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    if kind == _EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack("<H", body[24:26])
    form = _FORMS.get((kind, bits))
    if form is None:
        raise InvalidMedia(
            f"WAV of {bits} bits and format {kind} is not read as it comes: 16 bits, 32-bit floats"
            " and G.711 are"
        )
    return Shape(form=form, rate=rate, channels=channels)


def _read(stream: BinaryIO, size: int) -> bytes:
    """So many bytes of an unbuffered stream, fewer only at its end."""
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = _read(stream, size)
    if len(data) < size:
        raise InvalidMedia("the WAV file ends in its header")
    return data


@contextmanager
def pouring(stream: BinaryIO, shape: Shape, feed: Feed) -> Iterator[None]:
    """Put what `stream` brings into `feed`, within the block and on a thread of its own, as fast as
    it is heard; the end of it is the end of the sound.

    The thread may wait for `stream` when the process ends: it must not be buffered, since Python
    aborts where somebody holds the lock of a buffer then.
    """

    def pour() -> None:
        with contextlib.suppress(OutOfOrder):  # nobody hears any more
            while data := _read(stream, shape.piece_bytes):
                feed.put(data)
            feed.mark(Mark.END)

    threading.Thread(target=pour, name="sound", daemon=True).start()
    yield


@contextmanager
def interrupted(feed: Feed) -> Iterator[None]:
    """Within the block the first Ctrl-C ends the sound, and what was said until then still comes;
    the second is a KeyboardInterrupt."""

    def end(number: int, frame: object) -> None:
        if feed.ended or feed.closed:
            raise KeyboardInterrupt
        with contextlib.suppress(OutOfOrder):  # it has ended meanwhile
            feed.mark(Mark.END)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def recording(feed: Feed) -> Iterator[None]:
    """Put what the microphone hears into `feed` within the block.

    Raises:
        InvalidParameter: sounddevice, or PortAudio which it needs, is not there.
        Unavailable: there is no microphone, or it cannot be opened.
    """
    sounddevice = _sounddevice()

    def heard(data: Any, frames: int, time: Any, status: Any) -> None:
        with contextlib.suppress(OutOfOrder):  # what came too fast, or behind the end, is lost
            feed.push(bytes(data))

    try:
        stream = sounddevice.RawInputStream(
            samplerate=MICROPHONE_HZ,
            channels=1,
            dtype="int16",
            blocksize=round(MICROPHONE_HZ * PIECE_S),
            callback=heard,
        )
    except sounddevice.PortAudioError as error:
        raise Unavailable(f"the microphone cannot be opened: {error}") from error
    with stream:
        yield


def _sounddevice() -> Any:
    try:
        return importlib.import_module(MICROPHONE)
    except (ImportError, OSError) as error:
        raise InvalidParameter(
            f"--microphone needs the package {MICROPHONE}, and PortAudio: {error}"
        ) from error
