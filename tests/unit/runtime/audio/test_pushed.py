"""Pieces of headerless sound to samples."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.api import SoundForm
from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.pushed import Pushed, decoded

TONE = np.sin(np.arange(8000) / 20.0).astype(np.float32) / 2


@pytest.mark.parametrize(
    ("form", "octets", "values"),
    [
        (SoundForm.S16LE, b"\x00\x80\x00\x00\xff\x7f", [-1.0, 0.0, 32767 / 32768]),
        (SoundForm.F32LE, b"\x00\x00\x00\xbf\x00\x00\x80?", [-0.5, 1.0]),
        # the ends of both codes and their least steps, as ITU-T G.711 has them
        (SoundForm.ULAW, b"\x00\x80\xff\x7f\xfe", [-32124, 32124, 0, 0, 8]),
        (SoundForm.ALAW, b"\x2a\xaa\xd5\x55", [-32256, 32256, 8, -8]),
    ],
)
def test_every_form(form: SoundForm, octets: bytes, values: list[float]) -> None:
    scale = 32768.0 if form in (SoundForm.ULAW, SoundForm.ALAW) else 1.0
    assert decoded(octets, form).tolist() == [value / scale for value in values]


@pytest.mark.parametrize("piece", [1, 3, 1000, 10**6])
def test_pieces_of_any_length_give_the_same(piece: int) -> None:
    data = (TONE * 32767).astype("<i2").tobytes()
    whole = Pushed(SoundForm.S16LE, 16000, 1)
    cut = Pushed(SoundForm.S16LE, 16000, 1)
    pieces = [cut.samples(data[at : at + piece]) for at in range(0, len(data), piece)]
    assert np.array_equal(np.concatenate(pieces), whole.samples(data))
    assert cut.read_s == pytest.approx(0.5)


def test_channels_are_mixed_down_and_other_rates_resampled() -> None:
    two = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    pushed = Pushed(SoundForm.F32LE, 8000, 2)
    data = two.tobytes()
    found = np.concatenate([pushed.samples(data[:9999]), pushed.samples(data[9999:]), pushed.end()])
    assert pushed.read_s == pytest.approx(1.0)
    assert len(found) == pytest.approx(16000, abs=2)
    expected = np.sin(np.arange(16000) / 40.0) / 4
    assert np.abs(found[500:-500] - expected[500 : len(found) - 500]).max() < 0.01


def test_loud_values_are_clipped_and_no_numbers_refused() -> None:
    pushed = Pushed(SoundForm.F32LE, 16000, 1)
    assert pushed.samples(np.array([2.0, -3.0], "<f4").tobytes()).tolist() == [1.0, -1.0]
    pushed.samples(np.zeros(8000, "<f4").tobytes())
    with pytest.raises(InvalidMedia, match=r"no numbers, after 0\.50 s"):
        pushed.samples(np.array([0.0, np.nan], "<f4").tobytes())
