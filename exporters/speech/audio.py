"""The recordings that graphs are held to, and the features that an encoder reads of them."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from exporters.errors import Refused
from exporters.model.files import read_object, shown
from exporters.model.source import Source
from nsedge.runtime.audio.mel import FREQUENCIES, LogMel
from nsedge.runtime.audio.recording import Recording
from nsedge.runtime.audio.samples import RATE
from nsedge.runtime.hosting.golden_speech import Recorded

Floats = NDArray[np.float32]

SETTINGS_FILE = "preprocessor_config.json"
KNOWN = {"n_fft": 400, "hop_length": 160, "chunk_length": 30, "sampling_rate": RATE}
"""What every Whisper model's features are made with."""
LOUDNESS = 0.1
SEED = 31


def clip_samples(path: Path) -> Floats:
    """A recording's samples, 16,000 a second of one channel, as 16 bits hold them."""
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != RATE or samples.ndim != 1:
        raise Refused(f"{path}: to be mono, {RATE} samples a second")
    return np.asarray(samples, np.float32) / np.float32(32768)


def made_up() -> list[Floats]:
    """Ten seconds each of noise, of a rising tone and of silence: what a microphone also hears."""
    random = np.random.default_rng(SEED)
    times = np.arange(10 * RATE) / RATE
    tone = np.sin(2 * np.pi * (100 * times + 150 * times**2))
    noise = random.standard_normal(len(times))
    return [np.asarray(LOUDNESS * part, np.float32) for part in (noise, tone, np.zeros(len(times)))]


def wave_bytes(samples: Floats) -> bytes:
    """A file of 16 bits a sample."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return written.getvalue()


def mel_filters(source: Source, bins: int) -> Floats:
    """The filters [bins, FREQUENCIES] that the model's features are made with.

    Raises:
        Refused: its features are made in another way.
    """
    path = source.folder / SETTINGS_FILE
    settings = read_object(path) if path.is_file() else {}
    for key, value in {**KNOWN, "feature_size": bins}.items():
        if (stated := settings.get(key, value)) != value:
            raise Refused(f"{path}: {key} is {shown(stated)}; {value} alone has a form here")
    filters = mel_filter_bank(
        num_frequency_bins=FREQUENCIES,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.ascontiguousarray(filters.T, "<f4")


def features_of(samples: Floats, filters: Floats) -> Floats:
    """What an encoder reads of the first window of a recording: [bins, 3000]."""
    window = Recording(Recorded(samples)).window(0)
    return LogMel(filters).window(window.samples, window.frames)
