"""Sound that comes in pieces without a header, as samples: of any length, form, rate and number of
channels. Imported with the first such sound, as `sound` is."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from nsedge.api import SoundForm
from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.samples import RATE, Samples

_BIAS = 33
"""Of mu-law, whose steps are those of 14 bits."""


class Pushed:
    """Turns one sound's bytes to samples, in order."""

    def __init__(self, form: SoundForm, rate: int, channels: int) -> None:
        self.read_s = 0.0
        """Seconds that came."""
        self._form = form
        self._rate = rate
        self._channels = channels
        self._frame_bytes = form.sample_bytes * channels
        self._rest = b""
        self._resampler: soxr.ResampleStream | None = None
        if rate != RATE:
            self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")

    def samples(self, data: bytes) -> Samples:
        """What `data` brings, mixed down to one channel and resampled; values beyond 1 are clipped.

        Raises:
            InvalidMedia: values that are no numbers; the message says where.
        """
        whole = self._rest + data
        count = len(whole) // self._frame_bytes
        self._rest = whole[count * self._frame_bytes :]
        values = decoded(whole[: count * self._frame_bytes], self._form)
        mixed = values if self._channels == 1 else values.reshape(-1, self._channels).mean(axis=1)
        if not np.isfinite(mixed).all():
            raise InvalidMedia(
                f"the sound has values that are no numbers, after {self.read_s:.2f} s"
            )
        self.read_s += count / self._rate
        samples: Samples = np.clip(mixed, -1.0, 1.0)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return samples

    def end(self) -> Samples:
        """What the resampler still holds; an incomplete sample is left out."""
        nothing = np.zeros(0, np.float32)
        if self._resampler is None:
            return nothing
        rest: Samples = self._resampler.resample_chunk(nothing, last=True)
        return rest


def decoded(data: bytes, form: SoundForm) -> Samples:
    """Whole samples as float32."""
    match form:
        case SoundForm.S16LE:
            return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
        case SoundForm.F32LE:
            return np.frombuffer(data, "<f4").astype(np.float32)
        case SoundForm.ULAW:
            return _ULAW[np.frombuffer(data, np.uint8)]
        case SoundForm.ALAW:
            return _ALAW[np.frombuffer(data, np.uint8)]


def _ulaw() -> NDArray[np.float32]:
    """Every octet of mu-law (ITU-T G.711): sign, exponent of 3 bits, mantissa of 4, inverted."""
    octets = ~np.arange(256, dtype=np.int32) & 0xFF
    sizes = (((octets & 0x0F) << 1) + _BIAS << (octets >> 4 & 0x07)) - _BIAS
    return (np.where(octets & 0x80, -sizes, sizes) * 4 / 32768.0).astype(np.float32)


def _alaw() -> NDArray[np.float32]:
    """Every octet of A-law: as mu-law, with every other bit inverted, and no step of 0."""
    octets = np.arange(256, dtype=np.int32) ^ 0x55
    exponents, mantissas = octets >> 4 & 0x07, (octets & 0x0F) << 4
    sizes = np.where(
        exponents == 0, mantissas + 8, mantissas + 0x108 << np.maximum(exponents - 1, 0)
    )
    return (np.where(octets & 0x80, sizes, -sizes) / 32768.0).astype(np.float32)


_ULAW = _ulaw()
_ALAW = _alaw()
