"""Films as their frames: the right ones, in constant memory, and files that are not what they
say."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from nsedge.api import Media
from nsedge.errors import InvalidMedia, MessageTooLarge, NsedgeError
from nsedge.runtime.vision.boxes import check_tables
from nsedge.runtime.vision.decoding import decode, measure
from nsedge.runtime.vision.films import Film, FilmFrame, FilmLimits
from tests.films import animation, film, number_of, sound_alone, still

LIMITS = FilmLimits()
FORMS = {
    "mp4": lambda: film(),
    "mov": lambda: film(form="mov"),
    "moov first": lambda: film(options={"movflags": "faststart"}),
    "fragments": lambda: film(options={"movflags": "frag_keyframe+empty_moov"}),
    "webm": lambda: film(form="webm", codec="libvpx-vp9"),
    "matroska": lambda: film(form="matroska"),
    "gif": lambda: animation(20, shown_ms=200),
    "webp": lambda: animation(20, form="WEBP", shown_ms=200),
}


def opened(data: bytes, limits: FilmLimits = LIMITS) -> Film:
    return Film(Media(type="video/mp4", data=data), limits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wanted", [range(20), (0, 7, 19), (13,), (19, 0, 8)])
def test_each_frame_is_the_one_that_is_asked_for(form: str, wanted: tuple[int, ...]) -> None:
    shown = opened(FORMS[form]())
    assert shown.size == (48, 64)
    assert shown.times == pytest.approx([number / 5 for number in range(20)], abs=2e-3)
    assert shown.end_s == pytest.approx(4.0, abs=0.05)
    assert [number_of(shown.picture(number)) for number in wanted] == list(wanted)


def test_a_frame_is_a_picture_among_others() -> None:
    media = Media(type="video/mp4", data=film())
    frame = FilmFrame.of(Film(media, LIMITS), 3)
    assert measure(frame, max_pixels=1 << 20) == (48, 64)
    assert number_of(decode(frame, max_pixels=1 << 20)) == 3
    assert frame.sha256 == f"{media.sha256} frame 3"


def test_a_film_that_players_turn_is_turned() -> None:
    left = Image.new("RGB", (64, 48), "black")
    left.paste((250, 250, 250), (0, 0, 32, 48))
    shown = opened(film(pictures=[left] * 3, turn=90))
    assert shown.size == (64, 48)
    upper, lower = np.split(np.asarray(shown.picture(0)).mean(axis=(1, 2)), 2)
    assert lower.mean() > 200 > 50 > upper.mean()


def test_of_a_still_there_is_one_frame() -> None:
    for form in ("GIF", "WEBP"):
        file = io.BytesIO()
        still(4).save(file, form)
        shown = opened(file.getvalue())
        assert (len(shown.times), number_of(shown.picture(0))) == (1, 4)


WHOLE = film()
BROKEN = {
    "nothing": (b"", "0 bytes are no film"),
    "no film": (b"no film at all", "14 bytes are no film in MP4"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), "are no film in MP4"),
    "a header alone": (WHOLE[:24], "cannot be read"),
    "half an MP4": (WHOLE[: len(WHOLE) // 2], "cannot be read"),
    "half an MP4, header first": (
        (whole := film(options={"movflags": "faststart"}))[: len(whole) * 2 // 3],
        "breaks off|cannot be",
    ),
    "half a WebM": (
        (webm := film(form="webm", codec="libvpx-vp9"))[: len(webm) // 2],
        "breaks off",
    ),
    "half a GIF": ((gif := animation(20))[: len(gif) // 2], "the GIF breaks off"),
    "half a WebP": ((webp := animation(20, form="WEBP"))[: len(webp) // 2], "the WebP breaks off"),
    "sound alone": (sound_alone(), "holds no film: what is in it is audio"),
    "noise in a GIF": (b"GIF89a" + bytes(range(1, 60)), "the GIF"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_whole_film_is_refused_as_what_it_is(what: str) -> None:
    data, told = BROKEN[what]
    with pytest.raises(InvalidMedia, match=told):
        opened(data)


def test_a_frame_that_is_larger_than_its_gif_says_is_not_decoded() -> None:
    place = gif.index(b"\x2c\0\0\0\0", gif.index(b"\x2c\0\0\0\0") + 1)
    for corner in (struct.pack("<4H", 0, 0, 65535, 65535), struct.pack("<4H", 65000, 65000, 8, 8)):
        data = gif[: place + 1] + corner + gif[place + 9 :]
        with pytest.raises(MessageTooLarge, match="a picture of 65"):
            opened(data)


def test_a_film_that_has_fewer_packets_when_it_is_read_again_breaks_off() -> None:
    shown = opened(WHOLE)
    keys = vars(shown._track)["_keys"]
    keys[:] = 1000
    with pytest.raises(InvalidMedia, match="the film breaks off"):
        shown.picture(19)


def test_damage_never_does_more_than_fail() -> None:
    noise = np.random.default_rng(0)
    for data, _ in itertools.product((WHOLE, webm, gif, webp), range(40)):
        damaged = bytearray(data)
        for place in noise.integers(0, len(data), 20):
            damaged[place] = noise.integers(256)
        try:
            shown = opened(bytes(damaged))
            for number in range(0, min(len(shown.times), 30), 3):
                shown.picture(number)
        except NsedgeError:
            pass


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def track(handler: bytes, **tables: bytes) -> bytes:
    stbl = b"".join(box(kind.encode(), content) for kind, content in tables.items())
    told = box(b"hdlr", bytes(8) + handler + bytes(12))
    mdia = box(b"mdia", told + box(b"minf", box(b"stbl", stbl)))
    return box(b"ftyp", b"isom") + box(b"moov", box(b"trak", mdia))


BILLION = 10**9
LIES = {
    "stsz": track(b"vide", stsz=struct.pack(">III", 0, 1, BILLION)),
    "stts": track(b"vide", stts=struct.pack(">IIII", 0, 1, BILLION, 512)),
    "stsc": track(
        b"vide", stsc=struct.pack(">IIIII", 0, 1, 1, BILLION, 1), stco=struct.pack(">III", 0, 1, 0)
    ),
    "stco": track(b"soun", stco=struct.pack(">II", 0, BILLION)),
    "sound of one tick": track(
        b"soun",
        stts=struct.pack(">IIII", 0, 1, BILLION, 1),
        stsc=struct.pack(">IIIII", 0, 1, 1, BILLION, 1),
        stco=struct.pack(">III", 0, 1, 0),
    ),
    "trun": box(b"ftyp", b"isom")
    + box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, BILLION)))),
}


@pytest.mark.parametrize("what", LIES)
def test_a_header_that_tells_of_a_billion_frames_is_refused_before_it_is_believed(
    what: str,
) -> None:
    with pytest.raises(InvalidMedia, match="its header tells of 1000000000 frames"):
        opened(LIES[what])


def test_a_header_in_a_whole_film_that_lies_is_refused() -> None:
    at = WHOLE.index(b"stsz") + 12
    lying = WHOLE[:at] + struct.pack(">I", BILLION) + WHOLE[at + 4 :]
    with pytest.raises(InvalidMedia, match="tells of 1000000000 frames"):
        opened(lying)


def test_an_hour_of_plain_sound_beside_a_film_is_no_lie() -> None:
    samples = 3600 * 44_100
    check_tables(
        track(
            b"soun",
            stts=struct.pack(">IIII", 0, 1, samples, 1),
            stsz=struct.pack(">III", 0, 4, samples),
            stsc=struct.pack(">IIIII", 0, 1, 1, 8, 1),
            stco=struct.pack(">III", 0, 1, 0),
        )
    )


def test_size_length_and_time_are_bounded() -> None:
    with pytest.raises(MessageTooLarge, match="a film of 4 s; 3 may be read"):
        opened(WHOLE, FilmLimits(seconds=3.0))
    for data in (WHOLE, gif):
        with pytest.raises(MessageTooLarge, match="a picture of 64 x 48 pixels; 1000"):
            opened(data, FilmLimits(max_pixels=1000))
    ticks = itertools.count()
    media = Media(type="video/mp4", data=film(60))
    for decode_s in (30, 100):  # while its frames are counted, and while they are decoded
        with pytest.raises(MessageTooLarge, match=f"decoding it takes more than {decode_s} s"):
            list(map(_slow(media, decode_s, ticks).picture, range(60)))


def _slow(media: Media, decode_s: float, ticks: Iterator[int]) -> Film:
    """A film, of which each look at the clock takes a second."""
    return Film(media, FilmLimits(decode_s=decode_s), clock=lambda: float(next(ticks)))


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "nsedge.runtime.vision.containers", raising=False)
    with pytest.raises(InvalidMedia, match=r"pip install 'nsedge\[video\]'; GIF and WebP are"):
        opened(WHOLE)
    assert len(opened(gif).times) == 20
