"""Log-mel features, held to transformers'."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.runtime.audio.mel import LogMel
from nsedge.runtime.audio.recording import Recording
from tests.unit.runtime.audio.files import tone

transformers = pytest.importorskip("transformers")


class Source:
    def __init__(self, samples: NDArray[np.float32]) -> None:
        self.samples = samples

    def blocks(self):
        yield self.samples


def sounds() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    sweep = np.sin(np.cumsum(np.linspace(0.01, 2.5, 200_000))).astype(np.float32)
    return {
        "noise": rng.uniform(-1, 1, 470_000).astype(np.float32),
        "a tone": tone(9.0)[:, 0],
        "a sweep that fades": sweep * np.logspace(0, -5, 200_000).astype(np.float32),
        "silence": np.zeros(160_000, np.float32),
        "a click": np.eye(1, 30_000, 12_345, dtype=np.float32)[0],
        "one sample": np.full(1, 0.5, np.float32),
        "quiet noise": (rng.normal(size=100_000) * 1e-3).astype(np.float32),
    }


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", sounds())
def test_features_are_those_of_the_reference(name: str, bins: int) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
    samples = sounds()[name]
    window = Recording(Source(samples)).window(0)
    features = LogMel(extractor.mel_filters.T.astype(np.float32)).window(
        window.samples, window.frames
    )
    wanted = extractor(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
    assert features.shape == (bins, 3000)
    assert features.dtype == np.float32
    assert np.abs(features - wanted).max() <= 1e-4


def test_frames_without_sound_need_not_be_looked_at() -> None:
    filters = np.random.default_rng(1).random((80, 201), np.float32)
    window = Recording(Source(tone(4.0)[:, 0])).window(0)
    mel = LogMel(filters)
    assert np.array_equal(mel.window(window.samples, window.frames), mel.window(window.samples))


def test_filters_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="mel filters are"):
        LogMel(np.zeros((201, 80), np.float32))
