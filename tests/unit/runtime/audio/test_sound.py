"""Sound files to samples."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.errors import InvalidMedia
from nsedge.runtime.audio.sound import MAX_S, Sound
from tests.unit.runtime.audio.files import tone, written


def read(data: bytes) -> NDArray[np.float32]:
    return np.concatenate(list(Sound(data).blocks()))


def loudest_hertz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * 16_000 / len(samples)


@pytest.mark.parametrize(
    ("form", "subtype", "rate", "channels"),
    [
        ("WAV", "PCM_16", 16_000, 1),
        ("WAV", "PCM_U8", 8_000, 1),
        ("WAV", "PCM_24", 48_000, 2),
        ("WAV", "FLOAT", 44_100, 2),
        ("WAV", "PCM_16", 192_000, 1),
        ("WAV", "PCM_16", 16_000, 8),
        ("WAV", "ULAW", 8_000, 1),
        ("FLAC", "PCM_24", 96_000, 2),
        ("FLAC", "PCM_16", 22_050, 8),
        ("OGG", "VORBIS", 44_100, 2),
        ("OGG", "OPUS", 48_000, 1),
        ("MP3", "MPEG_LAYER_III", 44_100, 2),
        ("MP3", "MPEG_LAYER_III", 16_000, 1),
    ],
)
def test_every_format_rate_and_number_of_channels_gives_the_same_sound(
    form: str, subtype: str, rate: int, channels: int
) -> None:
    data = written(tone(2.0, rate=rate, channels=channels), rate=rate, form=form, subtype=subtype)
    sound = Sound(data)
    assert sound.seconds == pytest.approx(2.0, abs=0.1)
    samples = np.concatenate(list(sound.blocks()))
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(32_000, abs=1600)
    assert loudest_hertz(samples) == pytest.approx(440.0, abs=2.0)
    assert np.abs(samples[8_000:24_000]).max() == pytest.approx(0.5, abs=0.05)
    assert sound.read_s == pytest.approx(len(samples) / 16_000, abs=1e-3)


def test_channels_are_mixed_down() -> None:
    sides = np.stack([np.full(1600, 0.75), np.full(1600, -0.25)], axis=1).astype(np.float32)
    assert read(written(sides, subtype="FLOAT")) == pytest.approx(np.full(1600, 0.25))


def test_values_beyond_one_are_clipped() -> None:
    loud = np.full((1600, 1), 7.0, np.float32)
    assert read(written(loud, subtype="FLOAT")).max() == 1.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_one_sample_is_a_sound(rate: int) -> None:
    samples = read(written(np.full((1, 1), 0.5, np.float32), rate=rate))
    assert len(samples) <= 3


def test_a_long_file_comes_in_blocks() -> None:
    sound = Sound(written(np.zeros((16_000 * 300, 2), np.float32), form="FLAC"))
    blocks = sound.blocks()
    assert len(next(blocks)) <= 1 << 18
    assert sound.read_s < 20.0
    assert sum(map(len, blocks)) > 16_000 * 280


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"RIFF", "WAV, FLAC, OGG and MP3 are"),
        (bytes(4096), "no sound that is read here"),
        (b"\0\0\0\x20ftypM4A " + bytes(64), "this is MP4 (M4A)"),
        (b"\x1a\x45\xdf\xa3" + bytes(64), "this is WebM or Matroska"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "this is PNG"),
        (b'{"text": "hello"}', "this is JSON"),
        (written(np.zeros((0, 1), np.float32)), "the sound has no samples"),
    ],
    ids=["cut header", "zeros", "m4a", "webm", "png", "json", "no samples"],
)
def test_what_is_no_sound_is_refused_by_what_it_is(data: bytes, told: str) -> None:
    with pytest.raises(InvalidMedia) as refused:
        read(data)
    assert told in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_damage_in_the_middle_is_an_error_or_a_result(form: str) -> None:
    data = bytearray(written(tone(20.0), form=form))
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    told = ""
    try:
        heard = len(read(bytes(data)))
    except InvalidMedia as error:
        heard, told = 0, error.message
    assert heard or "breaks off after" in told


def test_a_flac_that_is_cut_short_is_told() -> None:
    data = written(np.random.default_rng(1).uniform(-0.5, 0.5, (160_000, 1)), form="FLAC")
    with pytest.raises(InvalidMedia, match=r"the FLAC sound breaks off after \d+\.\d\d s"):
        read(data[: len(data) // 2])


def test_damage_that_a_decoder_takes_for_the_end_is_told() -> None:
    rng = np.random.default_rng(0)
    data = bytearray(written((0.3 * rng.normal(size=(960_000, 1))).astype(np.float32), form="MP3"))
    for at in rng.integers(5_000, len(data), 1_000):
        data[at] = rng.integers(256)
    with pytest.raises(InvalidMedia, match=r"breaks off after \d+\.\d\d s: the \d+ bytes behind"):
        read(bytes(data))


@pytest.mark.parametrize("form", ["WAV", "OGG", "MP3"])
def test_others_are_heard_as_far_as_they_go(form: str) -> None:
    data = written(tone(20.0, rate=16_000), form=form)
    assert 16_000 < len(read(data[: len(data) // 2])) < 16_000 * 16


def test_values_that_are_no_numbers_are_refused() -> None:
    samples = tone(1.0)
    samples[8_000] = np.nan
    with pytest.raises(InvalidMedia, match="no numbers"):
        read(written(samples, subtype="FLOAT"))


@pytest.mark.parametrize("rate", [100, 900_000])
def test_rates_of_no_sound_are_refused(rate: int) -> None:
    data = bytearray(written(tone(0.1)))
    data[24:28] = struct.pack("<I", rate)
    with pytest.raises(InvalidMedia, match=f"{rate} samples a second"):
        Sound(bytes(data))


def test_days_of_silence_are_refused() -> None:
    data = bytearray(written(np.zeros((16_000, 1), np.float32), rate=1_000))
    data[24:28] = struct.pack("<I", 1_000)
    assert Sound(bytes(data)).seconds == 16.0
    assert MAX_S == 24 * 3600.0
