"""Sound that a command hears while it is made: WAV headers, pieces, microphones."""

from __future__ import annotations

import io
import struct
import sys
import types
import wave

import pytest

from nsedge.api import Feed, Mark, SoundForm
from nsedge.cli import live_sound
from nsedge.cli.live_sound import Shape, wav_shape
from nsedge.errors import InvalidMedia, InvalidParameter, Unavailable


def header(kind: int, channels: int, rate: int, bits: int, more: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate, 0, 0, bits) + more
    return (
        b"RIFF\xff\xff\xff\xffWAVE"
        + struct.pack("<4sI", b"fmt ", len(form))
        + form
        + b"LIST\x03\x00\x00\x00abc\x00"
        + b"data\xff\xff\xff\xff"
    )


def test_the_header_of_a_file_that_is_being_written_is_read_and_no_more() -> None:
    stream = io.BytesIO(header(1, 2, 44_100, 16) + b"\x01\x02")
    assert wav_shape(stream) == Shape(form=SoundForm.S16LE, rate=44_100, channels=2)
    assert stream.read() == b"\x01\x02"
    plain = io.BytesIO()
    with wave.open(plain, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"ab")
    plain.seek(0)
    assert wav_shape(plain) == Shape(form=SoundForm.S16LE, rate=16_000, channels=1)
    assert plain.read() == b"ab"


@pytest.mark.parametrize(
    ("kind", "bits", "form"),
    [(3, 32, SoundForm.F32LE), (6, 8, SoundForm.ALAW), (7, 8, SoundForm.ULAW)],
)
def test_other_forms(kind: int, bits: int, form: SoundForm) -> None:
    assert wav_shape(io.BytesIO(header(kind, 1, 8000, bits))).form is form
    more = struct.pack("<HHIH14x", 22, bits, 0, kind)
    assert wav_shape(io.BytesIO(header(0xFFFE, 1, 8000, bits, more))).form is form


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "neither"),
        (b"fLaC" + bytes(20), "neither"),
        (header(1, 1, 8000, 8), "8 bits and format 1"),
        (header(1, 1, 8000, 16)[:30], "ends in its header"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not say how"),
        (b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0ab", "does not say how"),
        (b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\x08\0" + bytes(1 << 19) * 3, "no samples where"),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InvalidMedia, match=why):
        wav_shape(io.BytesIO(data))


def test_a_stream_is_poured_to_its_end() -> None:
    feed = Feed()
    shape = Shape(form=SoundForm.S16LE, rate=16_000, channels=1)
    heard, mark = b"", None
    with live_sound.pouring(io.BytesIO(b"x" * 10_000), shape, feed):
        while mark is None:
            taken = feed.take(1 << 16)
            if isinstance(taken, Mark):
                mark = taken
            elif taken:
                heard += taken
    assert (heard, mark) == (b"x" * 10_000, Mark.END)


class Stream:
    """A microphone that has heard something before it is waited for."""

    def __init__(self, **options: object) -> None:
        options["callback"](b"\x01\x00", 1, None, None)  # type: ignore[operator]
        self.options = options

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_microphone_is_heard_where_its_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with (
        pytest.raises(InvalidParameter, match="--microphone needs the package sounddevice"),
        live_sound.recording(Feed()),
    ):
        pass

    def broken(**options: object) -> None:
        raise OSError("no default device")

    there = types.SimpleNamespace(RawInputStream=Stream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", there)
    feed = Feed()
    with live_sound.recording(feed):
        assert feed.take(10) == b"\x01\x00"
    there.RawInputStream = broken
    with (
        pytest.raises(Unavailable, match="cannot be opened: no default device"),
        live_sound.recording(Feed()),
    ):
        pass
