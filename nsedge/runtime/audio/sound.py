"""Sound files to samples, a block at a time, so that hours of sound take no more memory than
seconds.

WAV, FLAC, OGG (Vorbis, Opus) and MP3, and what else libsndfile reads, at any rate and number of
channels. Imported with the first sound: soundfile and soxr are libraries that text needs not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.samples import RATE, Samples

READ = "WAV, FLAC, OGG and MP3"
MAX_S = 24 * 3600.0
"""Of one sound: a small file can be made to hold days of silence."""
RATES = (1_000, 768_000)
"""Samples a second of what is read, least and most."""
_BLOCK_VALUES = 1 << 18
"""Samples of all channels that are read at once."""
_EXACT = ("FLAC",)
"""Formats whose header counts the samples, and does not guess."""
_MOST_LEFT = 1 << 16
"""Bytes behind the sound that may be something else, or a fifth of the file: more is damage that a
decoder took for the end."""
_OTHERS = {
    b"ftyp": (4, "MP4 (M4A)"),
    b"\x1a\x45\xdf\xa3": (0, "WebM or Matroska"),
    b"FLV": (0, "FLV"),
    b"\x30\x26\xb2\x75": (0, "ASF (WMA)"),
    b"#!AMR": (0, "AMR"),
    b"%PDF": (0, "PDF"),
    b"\x89PNG": (0, "PNG"),
    b"\xff\xd8\xff": (0, "JPEG"),
    b"PK\x03\x04": (0, "ZIP"),
    b"\x1f\x8b": (0, "gzip"),
    b"{": (0, "JSON"),
    b"<": (0, "XML or HTML"),
}
"""What is sent in the place of sound: how it begins, where, and what it is."""


class Sound:
    """A sound file, decoded from front to back, once."""

    def __init__(self, data: bytes) -> None:
        """Read the header of `data`, a whole file.

        Raises:
            InvalidMedia: it is no sound that is read here; the message says why.
        """
        self._data, self._size = _Bytes(data), len(data)
        self._file = _opened(self._data)
        self.format: str = self._file.format
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        if not RATES[0] <= self.rate <= RATES[1]:
            raise InvalidMedia(
                f"the sound has {self.rate} samples a second; {RATES[0]} to {RATES[1]} are read"
            )
        count = self._file.frames
        self.seconds: float | None = count / self.rate if 0 < count <= MAX_S * RATES[1] else None
        """Its length, as the header has it; None where that says nothing."""
        if self.seconds is not None and self.seconds > MAX_S:
            raise _too_long()
        self.read_s = 0.0
        """Seconds of it that were decoded."""

    def blocks(self) -> Iterator[Samples]:
        """Its samples, mixed down to one channel and resampled; values beyond 1 are clipped.

        Raises:
            InvalidMedia: it cannot be decoded any further, breaks off, has no samples, or values
                that are no numbers; the message says where.
        """
        resampler = soxr.ResampleStream(self.rate, RATE, 1, dtype="float32", quality="HQ")
        count = 0
        for mixed in self._mixed():
            count += len(mixed)
            self.read_s = count / self.rate
            if self.read_s > MAX_S:
                raise _too_long()
            yield mixed if self.rate == RATE else resampler.resample_chunk(mixed)
        if not count:
            raise InvalidMedia("the sound has no samples")
        if self.format in _EXACT and count < self._file.frames:
            raise self._broken(f"its header tells of {self._file.frames / self.rate:.2f} s")
        left = self._size - self._data.tell()
        if left > max(_MOST_LEFT, self._size // 5):
            raise self._broken(f"the {left} bytes behind it cannot be decoded")
        if self.rate != RATE:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _mixed(self) -> Iterator[Samples]:
        """Blocks at the file's own rate."""
        size = max(1, _BLOCK_VALUES // self.channels)
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise self._broken(_reason(error)) from error
            if not len(block):
                return
            mixed = block[:, 0] if self.channels == 1 else block.mean(axis=1)
            if not np.isfinite(mixed).all():
                raise InvalidMedia(
                    f"the sound has values that are no numbers, after {self.read_s:.2f} s"
                )
            yield np.clip(mixed, -1.0, 1.0)

    def _broken(self, why: str) -> InvalidMedia:
        return InvalidMedia(f"the {self.format} sound breaks off after {self.read_s:.2f} s: {why}")


class _Bytes(io.BytesIO):
    """A file in memory whose places begin at 0. libsndfile asks for others where a header lies, and
    an error raised from its callbacks is printed and lost."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, or to 0 where it is before that."""
        start = {io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}.get(whence, 0)
        return super().seek(max(0, start + offset))


def _opened(data: io.BytesIO) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(data)
    except soundfile.SoundFileError as error:
        head = data.getvalue()[:64]
        for mark, (at, name) in _OTHERS.items():
            if head[at : at + len(mark)] == mark:
                raise InvalidMedia(
                    f"this is {name}, and no sound that is read here: {READ} are"
                ) from error
        raise InvalidMedia(f"no sound that is read here: {_reason(error)} ({READ} are)") from error


def _reason(error: soundfile.SoundFileError) -> str:
    """What libsndfile says, without what was to be opened."""
    said = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return " ".join(str(said).split()).removeprefix("Error : ").rstrip(".")


def _too_long() -> InvalidMedia:
    return InvalidMedia(f"the sound is longer than {MAX_S / 3600:g} hours")
