"""Sound files, made of numbers."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(
    seconds: float, *, rate: int = 16_000, channels: int = 1, hertz: float = 440.0
) -> NDArray[np.float32]:
    """A tone of half the full scale, float32 [frames, channels]."""
    times = np.arange(round(seconds * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)
    return np.repeat(wave[:, None], channels, axis=1)


def written(
    samples: NDArray[np.float32],
    *,
    rate: int = 16_000,
    form: str = "WAV",
    subtype: str | None = None,
) -> bytes:
    """A file that holds `samples` [frames, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()
