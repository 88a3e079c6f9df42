"""Log-mel features of a window, as OpenAI's Whisper was trained on (whisper/audio.py): the power of
a short-time Fourier transform (Hann window of 400 samples, every 160), through mel filters, as
log10, held within 8 of its greatest value, and scaled. Within 1e-4 of transformers'
WhisperFeatureExtractor.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nsedge.runtime.audio.recording import MARGIN
from nsedge.runtime.audio.samples import FRAME, WINDOW_FRAMES, Samples

SPAN = 2 * MARGIN
"""Samples that one feature is made of."""
FREQUENCIES = SPAN // 2 + 1
_FLOOR = 1e-10
_RANGE = 8.0
_AT_ONCE = 500
"""Frames that are transformed at once, so that they stay in the processor's cache."""


class LogMel:
    """Makes features with a model's own filters. From any thread."""

    def __init__(self, filters: NDArray[np.float32]) -> None:
        """filters: float32 [bins, FREQUENCIES].

        Raises:
            ValueError: they have another shape.
        """
        if filters.ndim != 2 or filters.shape[1] != FREQUENCIES:
            raise ValueError(f"mel filters are [bins, {FREQUENCIES}], not {filters.shape}")
        self._filters = np.ascontiguousarray(filters.T, np.float32)
        self._hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(SPAN) / SPAN)

    def window(self, samples: Samples, frames: int = WINDOW_FRAMES) -> NDArray[np.float32]:
        """Features float32 [bins, WINDOW_FRAMES] of a `Window`'s samples, of which the first
        `frames` frames have sound."""
        spans = sliding_window_view(samples, SPAN)[::FRAME]
        reached = min(WINDOW_FRAMES, frames + SPAN // FRAME)
        mels = np.full((WINDOW_FRAMES, self._filters.shape[1]), _FLOOR, np.float32)
        for begin in range(0, reached, _AT_ONCE):
            end = min(reached, begin + _AT_ONCE)
            spectrum = np.fft.rfft(spans[begin:end] * self._hann)
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
            np.maximum(power @ self._filters, _FLOOR, out=mels[begin:end])
        features = np.log10(mels, out=mels)
        np.maximum(features, features.max() - _RANGE, out=features)
        features += 4.0
        features /= 4.0
        return np.ascontiguousarray(features.T)
