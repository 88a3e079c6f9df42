"""The official `openai` client's transcripts and translations against the shim."""

from __future__ import annotations

import openai
import pytest
from openai import OpenAI

from tests.contract.test_openai_client import shim_in_a_thread
from tests.fakes import MODEL, FakeService

SPEECH = ("speech.wav", b"one two three", "audio/wav")


def test_transcripts_in_every_format() -> None:
    with shim_in_a_thread(FakeService()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none", max_retries=0)
        ask = client.audio.transcriptions.create
        plain = ask(model=MODEL, file=SPEECH, language="en", prompt="So", temperature=0)
        text = ask(model=MODEL, file=SPEECH, response_format="text")
        verbose = ask(
            model=MODEL,
            file=SPEECH,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        srt = ask(model=MODEL, file=SPEECH, response_format="srt")
        vtt = ask(model=MODEL, file=SPEECH, response_format="vtt")
        translated = client.audio.translations.create(
            model=MODEL, file=SPEECH, response_format="verbose_json"
        )
    assert plain.text == "one two three"
    assert text == "one two three\n"
    assert (verbose.text, verbose.language, float(verbose.duration)) == (
        "one two three",
        "english",
        3.0,
    )
    assert [one.text for one in verbose.segments or ()] == [" one", " two", " three"]
    assert [(one.word, one.start, one.end) for one in verbose.words or ()][1] == ("two", 1.0, 1.5)
    assert str(srt).startswith("1\n00:00:00,000 --> 00:00:01,000\none\n")
    assert str(vtt).startswith("WEBVTT\n")
    assert (translated.text, translated.language) == ("one two three", "english")


def test_a_transcript_streams() -> None:
    with shim_in_a_thread(FakeService()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none", max_retries=0)
        stream = client.audio.transcriptions.create(model=MODEL, file=SPEECH, stream=True)
        events = list(stream)
    assert [one.type for one in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    deltas = [one.delta for one in events if one.type == "transcript.text.delta"]
    assert "".join(deltas) == events[-1].text == "one two three"


def test_what_is_refused_is_an_error_of_the_clients() -> None:
    with shim_in_a_thread(FakeService()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError) as refused:
            client.audio.transcriptions.create(model=MODEL, file=SPEECH, include=["logprobs"])
        assert refused.value.param == "include"
        with pytest.raises(openai.NotFoundError):
            client.audio.transcriptions.create(model="none", file=SPEECH)
