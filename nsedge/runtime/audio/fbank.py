"""Log-mel features of a whole sound, as Phi-4-multimodal was trained on: spans of samples with
preemphasis, a symmetric Hamming window, the power of a Fourier transform through mel filters, at
least 1, and the natural logarithm. Within 1e-4 of transformers' Phi4MultimodalFeatureExtractor.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nsedge.bundle.hearing import SoundFeatures
from nsedge.runtime.audio.samples import Samples

FULL_SCALE = 32768.0
_AT_ONCE = 1000
"""Spans that are transformed at once."""


class FilterBank:
    """Makes features with a model's own filters. From any thread."""

    def __init__(self, told: SoundFeatures, filters: NDArray[np.float32]) -> None:
        """filters: float32 [fft_size // 2 + 1, bins].

        Raises:
            ValueError: they have another shape.
        """
        shape = told.fft_size // 2 + 1, told.bins
        if filters.shape != shape:
            raise ValueError(f"mel filters are {shape}, not {filters.shape}")
        self._told = told
        self._filters = filters
        angles = 2.0 * np.pi * np.arange(told.window) / (told.window - 1)
        self._hamming = 0.54 - 0.46 * np.cos(angles)

    def frames(self, samples: int) -> int:
        """How many features come of so many samples."""
        told = self._told
        return 0 if samples < told.window else (samples - told.window) // told.hop + 1

    def rows(self, samples: int) -> int:
        """How many rows an encoder makes of them."""
        return -(-self.frames(samples) // self._told.stride)

    def features(self, samples: Samples) -> NDArray[np.float32]:
        """Of a whole sound: float32 [frames, bins]."""
        told = self._told
        spans = sliding_window_view(samples, told.window)[:: told.hop]
        made = np.empty((len(spans), told.bins), np.float32)
        for begin in range(0, len(spans), _AT_ONCE):
            part = spans[begin : begin + _AT_ONCE]
            before = np.concatenate([part[:, :1], part[:, :-1]], axis=1)
            risen = (part - np.float32(told.preemphasis) * before) * np.float32(FULL_SCALE)
            spectrum = np.fft.rfft(risen * self._hamming, n=told.fft_size)
            power = np.abs(spectrum.astype(np.complex64)) ** 2
            made[begin : begin + len(part)] = np.log(np.maximum(power @ self._filters, 1.0))
        return made
