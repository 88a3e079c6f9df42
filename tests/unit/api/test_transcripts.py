"""Transcripts gathered, and as subtitles; languages by their names; what a task refuses."""

from __future__ import annotations

import pytest

from nsedge.api import (
    Failed,
    Finished,
    FinishReason,
    Language,
    Media,
    Segment,
    Timings,
    Transcribe,
    Usage,
)
from nsedge.api.languages import LANGUAGES, language_code
from nsedge.api.tasks import TEMPERATURES, ladder
from nsedge.api.transcripts import Gathering, srt, vtt
from nsedge.errors import InvalidMedia, InvalidParameter, NsedgeError, Unavailable


def segment(seq: int, start_s: float, end_s: float, text: str, *, final: bool = True) -> Segment:
    return Segment(request_id="r", seq=seq, start_s=start_s, end_s=end_s, text=text, final=final)


def end(reason: FinishReason = FinishReason.STOP) -> Finished:
    usage = Usage(prompt_tokens=0, completion_tokens=3, audio_s=4.5)
    times = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
    return Finished(request_id="r", reason=reason, usage=usage, timings=times)


def test_segments_are_one_transcript() -> None:
    found = Gathering()
    for event in (
        Language(request_id="r", language="de", probability=0.9),
        segment(0, 0.0, 1.0, " Guten", final=False),
        segment(0, 0.0, 1.2, " Guten Tag."),
        segment(1, 1.2, 2.0, " Ja."),
        end(),
    ):
        found.saw(event)
    whole = found.result()
    assert (whole.text, whole.language, whole.usage.audio_s) == ("Guten Tag. Ja.", "de", 4.5)
    assert [one.final for one in whole.segments] == [True, True]


def test_a_transcript_that_failed_was_cancelled_or_has_no_end_is_none() -> None:
    with pytest.raises(InvalidMedia, match="no sound"):
        Gathering().saw(Failed.of("r", InvalidMedia("no sound")))
    with pytest.raises(Unavailable):
        Gathering().saw(end(FinishReason.CANCELLED))
    with pytest.raises(NsedgeError, match="no end"):
        Gathering().result()


CUES = [segment(0, 0.0, 1.5, " Hello,\n\nyou --> there"), segment(1, 3661.25, 3662.0, " <a> & b")]


def test_subtitles_as_subrip_has_them() -> None:
    assert srt(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello, you -> there\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\n<a> & b\n\n"
    )
    assert srt([]) == ""


def test_subtitles_as_webvtt_has_them() -> None:
    assert vtt(CUES) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nHello, you -> there\n\n"
        "01:01:01.250 --> 01:01:02.000\n&lt;a> &amp; b\n\n"
    )
    assert vtt([]) == "WEBVTT\n\n"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("German", "de"),
        ("haitian creole", "ht"),
        ("Castilian", "es"),
        ("yue", "yue"),
        ("he", "he"),
        ("iw", "he"),
    ],
)
def test_languages_by_code_and_name(said: str, code: str) -> None:
    assert language_code(said) == code


@pytest.mark.parametrize("said", ["", "xx", "klingon", "e", "-"])
def test_what_is_no_language(said: str) -> None:
    with pytest.raises(InvalidParameter, match="language must be"):
        language_code(said)


def test_there_are_as_many_languages_as_whisper_has() -> None:
    assert len(LANGUAGES) == 100
    assert all("_" not in name for name in LANGUAGES.values())


@pytest.mark.parametrize(
    ("first", "temperatures"),
    [
        (0.0, TEMPERATURES),
        (0.2, TEMPERATURES[1:]),
        (0.7, (0.7, 0.9)),
        (1.0, (1.0,)),
        (1.5, (1.5,)),
        (-1.0, (-1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    ],
)
def test_temperatures_rise_by_a_fifth(first: float, temperatures: tuple[float, ...]) -> None:
    assert ladder(first) == pytest.approx(temperatures)


SOUND = Media(type="audio/wav", data=b"x")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"media": Media(type="image/png", data=b"x")}, "media"),
        ({"media": Media(type="audio/wav", data=b"")}, "data"),
        ({"media": Media(type="sound", data=b"x")}, "type"),
        ({"language": "english"}, "language"),
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (0.0,) * 17}, "temperatures"),
        ({"temperatures": (0.0, 2.1)}, "temperatures"),
        ({"temperatures": (float("nan"),)}, "temperatures"),
        ({"best_of": 0}, "best_of"),
        ({"beams": 0}, "beams"),
        ({"patience": 0.0}, "patience"),
        ({"seed": -1}, "seed"),
        ({"prompt": "x" * 20_000}, "prompt"),
        ({"max_compression_ratio": -1.0}, "max_compression_ratio"),
        ({"min_logprob": 1.0}, "min_logprob"),
        ({"max_no_speech_prob": 1.1}, "max_no_speech_prob"),
    ],
)
def test_what_a_task_refuses(fields: dict, param: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        Transcribe(**{"media": SOUND, **fields}).check()
    assert refused.value.param == param


def test_sound_in_a_film_or_in_anything_may_be_heard() -> None:
    for kind in ("audio/unknown", "video/mp4", "application/octet-stream"):
        Transcribe(media=Media(type=kind, data=b"x")).check()
